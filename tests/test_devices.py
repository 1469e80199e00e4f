from pathlib import Path

from temper.devices import device_of_its_own, free_slot


def test_every_holder_has_a_slot_of_its_own(tmp_path: Path) -> None:
    with free_slot(tmp_path, "gpu", 2) as first, free_slot(tmp_path, "gpu", 2) as second:
        assert (first, second) == (0, 1)
        with free_slot(tmp_path, "gpu", 2) as crowded:
            assert crowded == 0, "more holders than slots share the first"
    with free_slot(tmp_path, "gpu", 2) as again:
        assert again == 0


def test_the_cpu_is_not_claimed() -> None:
    with device_of_its_own("cpu") as one, device_of_its_own("cpu") as other:
        assert one == other == "cpu"
