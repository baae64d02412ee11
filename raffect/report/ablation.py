"""The table of an ablation for papers: CSV, LaTeX, and the figures that the method published."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from raffect import __version__
from raffect.affwild2.tasks import SPECS, Task
from raffect.report.tables import Table, table
from raffect.sweep.ablation import FROZEN, FULL
from raffect.sweep.ablation_table import AblationRow

PUBLISHED: Mapping[str, Mapping[Task, float]] = {
    FULL: {Task.VA: 0.5805, Task.EXPR: 0.4561, Task.AU: 0.5762},
    FROZEN: {Task.VA: 0.5038, Task.EXPR: 0.4014, Task.AU: 0.5194},
    "without TCN": {Task.VA: 0.5675, Task.EXPR: 0.4372, Task.AU: 0.5519},
    "without Transformer": {Task.VA: 0.5734, Task.EXPR: 0.4428, Task.AU: 0.5612},
}
"""Validation scores of Zhou et al., "Emotion Recognition with CLIP and Sequential Learning", by
their own counting (see docs/paper.md)."""
_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
}  # fmt: skip


def ablation_table(rows: Sequence[AblationRow]) -> Table:
    """The whole table, with a column for each seed."""
    seeds = rows[0].seeds if rows else ()
    columns = (
        "name", "without", "mean", "spread", "difference", "low", "high", "parameters",
        *(f"score.{seed}" for seed in seeds),
    )  # fmt: skip
    return table(
        "ablation",
        columns,
        [
            (
                row.name,
                json.dumps(row.without) if row.without else None,
                row.mean,
                row.spread,
                row.difference,
                *(row.interval or (None, None)),
                row.parameters,
                *row.scores,
            )
            for row in rows
        ],
    )


def ablation_latex(rows: Sequence[AblationRow], task: Task, sweep: str) -> str:
    """The table in LaTeX, for `\\usepackage{booktabs}`; the same for the same arguments."""
    seeds = len(rows[0].seeds) if rows else 0
    lines = [
        f"% raffect {__version__}: raffect ablate {task.value} --name {sweep}",
        r"% \usepackage{booktabs}",
        r"\begin{table}",
        r"  \centering",
        rf"  \caption{{Ablation on validation: {_escape(SPECS[task].score_name)}"
        rf" (mean $\pm$ standard deviation over {seeds} seeds), and the paired difference to the"
        r" full model with its 95\,\% bootstrap interval over videos.}",
        rf"  \label{{tab:{sweep}}}",
        r"  \begin{tabular}{lccc}",
        r"    \toprule",
        r"    Model & Score & Difference & 95\,\% interval \\",
        r"    \midrule",
        *(f"    {' & '.join(_cells(row))} \\\\" for row in rows),
        r"    \bottomrule",
        r"  \end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _cells(row: AblationRow) -> list[str]:
    score = "--" if row.mean is None else f"{row.mean:.4f}"
    spread = "" if row.spread is None else rf" \pm {row.spread:.4f}"
    gap = "" if row.difference is None else f"${row.difference:+.4f}$"
    interval = "" if row.interval is None else "$[{:+.4f}, {:+.4f}]$".format(*row.interval)
    return [
        _escape(row.name),
        f"${score}{spread}$" if row.mean is not None else score,
        gap,
        interval,
    ]


def _escape(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)
