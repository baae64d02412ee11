"""An ablation's table as it is written for papers."""

from __future__ import annotations

from raffect import __version__
from raffect.affwild2.tasks import Task
from raffect.report.ablation import ablation_latex, ablation_table
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
