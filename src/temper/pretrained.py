"""What Hugging Face's transformers loads by name."""

from typing import Any


def load_pretrained(key: str, kind: str, name: str, **arguments: Any) -> Any:
    """`transformers.<kind>.from_pretrained(name)`: of the Hugging Face hub, which a cache stands before, or of a folder.

    Raises:
        ValueError: it cannot be loaded; the message begins with `key`.
    """
    try:
        import transformers
    except ImportError:
        raise ValueError(
            f"{key}: {name} is loaded by transformers, which is not installed: pip install 'temper[text]'"
        ) from None
    try:
        return getattr(transformers, kind).from_pretrained(name, **arguments)
    except Exception as error:  # whatever a library raises that has no network, or a folder with other files
        said = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(
            f"{key}: transformers cannot load {name} ({said}); name a model of huggingface.co or, without a network, a folder "
            "that save_pretrained wrote model and tokenizer to"
        ) from error
