#!/usr/bin/env python3
"""Bag-of-words baselines on data/train.tsv and data/dev.tsv: what the small BERT has to beat.

Every setting is chosen by 5-fold cross-validation on the training sentences; dev is scored once.
Needs scikit-learn: python3 baseline.py
"""
from pathlib import Path

import numpy as np
from scipy.sparse import diags
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline, make_union
from sklearn.svm import LinearSVC

WORDS = r"(?u)\b\w+(?:'\w+)?\b|[!?]"
DATA = Path(__file__).resolve().parent / "data"


class NaiveBayesScale(BaseEstimator, TransformerMixin):
    """Scales each feature by its log-count ratio (Wang & Manning 2012, NB-SVM)."""

    def __init__(self, alpha=1.0):
        self.alpha = alpha

    def fit(self, x, y):
        positive = self.alpha + np.asarray(x[y == 1].sum(axis=0)).ravel()
        negative = self.alpha + np.asarray(x[y == 0].sum(axis=0)).ravel()
        ratio = np.log(positive / positive.sum()) - np.log(negative / negative.sum())
        self.scale_ = diags(ratio)
        return self

    def transform(self, x):
        return x @ self.scale_


def read(name):
    rows = [line.split("\t") for line in (DATA / name).read_text("utf-8").splitlines()[1:]]
    return [text for text, _ in rows], np.array([int(label == "positive") for _, label in rows])


def tfidf(**more):
    return TfidfVectorizer(token_pattern=WORDS, sublinear_tf=True, **more)


def binary():
    return CountVectorizer(token_pattern=WORDS, ngram_range=(1, 2), binary=True)


def main():
    train_x, train_y = read("train.tsv")
    dev_x, dev_y = read("dev.tsv")
    characters = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True)
    c = [0.03, 0.1, 0.3, 1, 3, 10, 30]
    models = {
        "tf-idf 1-gram, logistic regression": (
            make_pipeline(tfidf(), LogisticRegression(max_iter=1000)),
            {"logisticregression__C": c},
        ),
        "tf-idf 1,2-gram, logistic regression": (
            make_pipeline(tfidf(ngram_range=(1, 2)), LogisticRegression(max_iter=1000)),
            {"logisticregression__C": c},
        ),
        "1,2-gram, naive Bayes": (
            make_pipeline(binary(), MultinomialNB()),
            {"multinomialnb__alpha": [0.1, 0.3, 1, 3]},
        ),
        "1,2-gram, NB-SVM": (
            make_pipeline(binary(), NaiveBayesScale(), LinearSVC()),
            {"linearsvc__C": [0.001, 0.003, 0.01, 0.03, 0.1, 1]},
        ),
        "1,2-gram, NB logistic regression": (
            make_pipeline(binary(), NaiveBayesScale(), LogisticRegression(max_iter=1000)),
            {"logisticregression__C": [0.01, 0.03, 0.1, 0.3, 1, 3]},
        ),
        "tf-idf 1,2-gram + characters 2-5, linear SVM": (
            make_pipeline(make_union(tfidf(ngram_range=(1, 2)), characters), LinearSVC()),
            {"linearsvc__C": [0.03, 0.1, 0.3, 1]},
        ),
    }
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    print("| model | chosen | cross-validation | dev |\n| --- | --- | --- | --- |")
    for name, (pipeline, grid) in models.items():
        search = GridSearchCV(pipeline, grid, cv=folds, n_jobs=1).fit(train_x, train_y)
        chosen = ", ".join(f"{k.split('__')[1]} = {v}" for k, v in search.best_params_.items())
        dev = search.score(dev_x, dev_y)
        print(f"| {name} | {chosen} | {100 * search.best_score_:.2f} | {100 * dev:.2f} |", flush=True)


if __name__ == "__main__":
    main()
