"""The ready reports by engines that are not ours, over the same table: the numbers have to be the same."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from typing import Any

import duckdb
import polars as pl
from deltalake import DeltaTable
from pysail.spark import SparkConnectServer
from pyspark.sql import SparkSession

from ops.analytics import answer, reports

from .figure import Figure

Rows = list[tuple[Any, ...]]
Ask = Callable[[str], Rows]


def compare(uri: str) -> list[Figure]:
    """Ask each engine for each report: how long it took, in how many rows it differs from `dial-results query`."""
    texts = {name: reports.sql(name, reports.Asked()) for name in reports.REPORTS}
    expected = {name: _plain(answer.ask(uri, {}, text, 0).rows) for name, text in texts.items()}
    figures: list[Figure] = []
    for engine, connect in ENGINES.items():
        with connect(uri) as ask:
            for name, text in texts.items():
                began = time.perf_counter()
                rows = _plain(ask(text))
                seconds = time.perf_counter() - began
                differing = len(set(rows) ^ set(expected[name]))
                same = f"{len(rows):,} rows, {differing} of them differ from `dial-results query`"
                figures.append(Figure(f"{name} by {engine}", "the same rows", seconds, "s", not differing, same))
    return figures


@contextlib.contextmanager
def _datafusion(uri: str) -> Iterator[Ask]:
    yield lambda sql: answer.ask(uri, {}, sql, 0).rows


@contextlib.contextmanager
def _duckdb(uri: str) -> Iterator[Ask]:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        files = DeltaTable(uri).file_uris()
        source = f"read_parquet({files}, hive_partitioning = true)"
        connection.execute(f"CREATE VIEW results AS SELECT * FROM {source}")  # noqa: S608  # our own files
        yield lambda sql: connection.execute(sql).fetchall()


@contextlib.contextmanager
def _polars(uri: str) -> Iterator[Ask]:
    context = pl.SQLContext(results=pl.scan_delta(uri))
    yield lambda sql: context.execute(sql, eager=True).rows()


@contextlib.contextmanager
def _sail(uri: str) -> Iterator[Ask]:
    """Spark's protocol and SQL, by Sail with a driver and two workers."""
    cluster = {"SAIL_MODE": "local-cluster", "SAIL_CLUSTER__WORKER_INITIAL_COUNT": "2"}
    os.environ |= cluster | {"RUST_LOG": "error"}
    server = SparkConnectServer("127.0.0.1", 0)
    server.start(background=True)
    session = SparkSession.builder.remote(f"sc://127.0.0.1:{server.listening_address[1]}").getOrCreate()
    session.conf.set("spark.sql.session.timeZone", "UTC")
    session.read.format("delta").load(uri).createOrReplaceTempView("results")
    try:
        yield lambda sql: [tuple(row) for row in session.sql(sql).collect()]
    finally:
        session.stop()
        server.stop()


ENGINES = {"DataFusion": _datafusion, "DuckDB": _duckdb, "Polars": _polars, "Sail (Spark Connect)": _sail}


def _plain(rows: Sequence[Sequence[Any]]) -> Rows:
    return sorted(tuple(_value(value) for value in row) for row in rows)


def _value(value: object) -> str | float:
    if isinstance(value, date):
        return value.isoformat()
    return value if isinstance(value, str) else float(str(value))
