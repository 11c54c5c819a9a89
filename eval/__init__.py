"""Evaluation: test collections, runs and qrels, trec_eval's measures, tests of significance, reports, run cards."""

from .beir import load_beir
from .calibrating import Calibrated, calibrate
from .card import Reproduction, compare_cards, contradictions, read_card
from .comparing import Compared, Comparison, compare
from .contract import EvalError, Qrels, Run, Searcher
from .costs import Cost, Latency, measure_latency, strand_costs
from .dataset import Dataset
from .evaluate import Report, System, evaluate, evaluate_runs
from .judged import Judged, judge
from .label_free import LabelFree, label_free
from .loading import load_dataset
from .many import Collection, Evaluation, evaluate_many
from .measures import DEFAULT_MEASURES, Scores, parse_measures, score_run
from .moves import Moved, Shift, shifts
from .own import own_in_index, own_in_runs, without_own
from .page import html_report
from .plans import Plan, default_plans, parse_plan, read_plans
from .ranker import Trained, seen, train
from .runs import read_qrels, read_run, run_lines, write_qrels, write_run
from .sizes import SizeCurve, size_curve
from .trec import load_trec
from .trial import Trial, try_out
from .tuning import Tuned, tune

__all__ = [
    "DEFAULT_MEASURES",
    "Calibrated",
    "Collection",
    "Compared",
    "Comparison",
    "Cost",
    "Dataset",
    "EvalError",
    "Evaluation",
    "Judged",
    "LabelFree",
    "Latency",
    "Moved",
    "Plan",
    "Qrels",
    "Report",
    "Reproduction",
    "Run",
    "Scores",
    "Searcher",
    "Shift",
    "SizeCurve",
    "System",
    "Trained",
    "Trial",
    "Tuned",
    "calibrate",
    "compare",
    "compare_cards",
    "contradictions",
    "default_plans",
    "evaluate",
    "evaluate_many",
    "evaluate_runs",
    "html_report",
    "judge",
    "label_free",
    "load_beir",
    "load_dataset",
    "load_trec",
    "measure_latency",
    "own_in_index",
    "own_in_runs",
    "parse_measures",
    "parse_plan",
    "read_card",
    "read_plans",
    "read_qrels",
    "read_run",
    "run_lines",
    "score_run",
    "seen",
    "shifts",
    "size_curve",
    "strand_costs",
    "train",
    "try_out",
    "tune",
    "without_own",
    "write_qrels",
    "write_run",
]
