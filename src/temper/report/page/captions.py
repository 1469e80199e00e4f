"""What a reader is to see in each figure."""

FIGURES = {
    "tradeoff": "Clean against robust accuracy, a mark for each cell, bars for standard deviations over seeds. What lies on the"
    " dashed line is beaten by no other cell in both.",
    "heatmap": "The grid, a panel for each metric: attacks across, penalties down.",
    "interaction": "Where lines run parallel, attack and penalty add up; where they close or cross, one changes what the other"
    " does.",
    "parts": "What each penalty does on average over those that it is combined with, by the attack that is trained against: the"
    " mean over all cells that have it, each minus the same one without it, and its 95 % interval over seeds.",
    "curves": "Validation accuracy over epochs. A robust accuracy that falls while training goes on is robust overfitting.",
    "radii": "Robust accuracy over the radius eps. The strip below shows what an audit could break beyond that.",
    "strength": "What more of a penalty does to clean accuracy, robust accuracy and cost.",
    "cost": "Robust accuracy against what training cost.",
    "examples": "The input, what the attack adds, what the network then sees, and what it says.",
    "surface": "The loss around one example, along the gradient and a random direction, for one cell of each kind.",
    "weights": "How the weights are distributed, for one cell of each kind.",
}
