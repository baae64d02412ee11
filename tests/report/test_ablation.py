"""An ablation's table as it is written for papers."""

from __future__ import annotations

import pytest

from raffect import __version__
from raffect.affwild2.tasks import Task
from raffect.report.ablation import ablation_latex, ablation_table
from raffect.report.collect import assemble
from raffect.report.figures.ablation import label
from raffect.report.sections import describe
from raffect.sweep.ablation import Variant
from tests.report.filling import filled
from tests.report.views import row, view
from tests.sweep import tiny
from tests.sweep.test_ablation_table import ROWS

CSV = """\
name,without,mean,spread,difference,low,high,parameters,score.0,score.1
full,,0.585,0.007071067811865481,,,,12,0.58,0.59
without losses.mse_share,"{""losses.mse_share"": 0.0}",0.5,,-0.08,-0.1,0.0123,12,0.5,
x & y,"{""a"": ""b""}",,,,,,,,
"""
LATEX = r"""% raffect VERSION: raffect ablate va --name va_1
% \usepackage{booktabs}
\begin{table}
  \centering
  \caption{Ablation on validation: mean concordance correlation coefficient (mean $\pm$ standard deviation over 2 seeds), and the paired difference to the full model with its 95\,\% bootstrap interval over videos.}
  \label{tab:va_1}
  \begin{tabular}{lccc}
    \toprule
    Model & Score & Difference & 95\,\% interval \\
    \midrule
    full & $0.5850 \pm 0.0071$ &  &  \\
    without losses.mse\_share & $0.5000$ & $-0.0800$ & $[-0.1000, +0.0123]$ \\
    x \& y & -- &  &  \\
    \bottomrule
  \end{tabular}
\end{table}
"""  # noqa: E501


def test_csv():
    assert ablation_table(ROWS).csv() == CSV


def test_latex():
    assert ablation_latex(ROWS, Task.VA, "va_1") == LATEX.replace("VERSION", __version__)


def test_the_section_shows_the_table_and_nothing_of_a_search():
    rows = [row(0, scores=[0.5], attributes=Variant("full").attributes(tiny.base(), 0))]
    made = assemble(view(rows, kind="ablation"), "store", ablation=ROWS)
    sections = describe(made, "a")
    figures = sections.drawing.figures
    assert {"ablation", "ablation-difference", "history", "curves"} <= set(figures)
    assert {"importance", "parallel", "grid"}.isdisjoint(figures)
    tables = sections.tables
    *seeds, mean = filled(figures["ablation"], tables)["data"]
    assert [trace["x"] for trace in seeds] == [[0.58, 0.5, None], [0.59, None, None]]
    assert mean["x"] == [pytest.approx(0.585), 0.5, None]
    assert mean["y"] == ["full", "without losses.mse_share", "x &amp; y"]
    line, point = filled(figures["ablation-difference"], tables)["data"]
    assert line["x"] == [-0.1, 0.0123, None]
    assert point["x"] == [-0.08]
    assert sections.published[3] == ("without Transformer", 0.5734, pytest.approx(-0.0071))
    # A search has none of it, and an ablation without a score says so.
    search = describe(assemble(view(rows), "store"), "a")
    assert {"ablation", "ablation-difference"}.isdisjoint(search.drawing.figures)
    empty = describe(assemble(view(rows, kind="ablation"), "store", ablation=ROWS[2:]), "a")
    assert "ablation" not in empty.drawing.figures


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("full", "full"),
        ("without fine-tuning", "without fine-tuning"),
        ("without model.transformer.positions", "without<br>transformer.positions"),
        ("without Transformer", "without Transformer"),
        ("optimiser.lr=0.5", "optimiser.lr=0.5"),
        ("segments.window=100", "segments.window=100"),
        ("losses.auxiliary.expr=0.5", "auxiliary.expr=0.5"),
    ],
)
def test_labels_are_short(name: str, short: str):
    assert label(name) == short
