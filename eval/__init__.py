"""Evaluation: BEIR folders, TREC runs and qrels, trec_eval's measures, reports and run cards."""

from .beir import Dataset, load_beir
from .contract import EvalError, Qrels, Run, Searcher
from .evaluate import Report, System, evaluate, evaluate_runs
from .measures import DEFAULT_MEASURES, Scores, parse_measures, score_run
from .runs import read_qrels, read_run, run_lines, write_qrels, write_run

__all__ = [
    "DEFAULT_MEASURES",
    "Dataset",
    "EvalError",
    "Qrels",
    "Report",
    "Run",
    "Scores",
    "Searcher",
    "System",
    "evaluate",
    "evaluate_runs",
    "load_beir",
    "parse_measures",
    "read_qrels",
    "read_run",
    "run_lines",
    "score_run",
    "write_qrels",
    "write_run",
]
