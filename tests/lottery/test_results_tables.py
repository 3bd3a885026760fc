"""results.parquet and results.csv: documented column by column, and read by what users have."""

from __future__ import annotations

import re
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

from lottery.report.results_parquet import csv, parquet, parquet_of_replicates
from tests.lottery.report_runs import write_run

DOCS = Path(__file__).parents[2] / "docs" / "report.md"
QUERY = "select control, count(*) as rows, max(top1) as best from '{}' group by control order by control"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with both files of a sweep, one of whose tickets failed with an awkward note."""
    root = tmp_path_factory.mktemp("results")
    run = write_run(root / "run", status="failed", notes='out of memory, "again"\nand again')
    blob = parquet(run.results())
    (root / "results.parquet").write_bytes(blob)
    (root / "results.csv").write_bytes(csv(blob))
    return root


def test_every_column_is_documented_with_its_type():
    table = pq.read_table(pa.BufferReader(parquet_of_replicates({0: []})))
    documented = re.findall(
        r"^\| (\w+) \| (\w+) \| \S", DOCS.read_text().partition("## results.parquet")[2], re.MULTILINE
    )
    assert [(name, kind) for name, kind in documented if name != "column"] == [
        (field.name, str(field.type)) for field in table.schema
    ]


def test_pandas_reads_it(folder):
    table = pq.read_table(folder / "results.parquet")
    frame = pd.read_parquet(folder / "results.parquet")
    assert frame.columns.tolist() == table.column_names
    assert len(frame) == table.num_rows == 24
    assert frame.top1.isna().sum() == 1
    assert frame[frame.control == "none"].groupby("level").size().tolist() == [3, 3, 3]


def test_duckdb_reads_both_and_they_say_the_same(folder):
    found = duckdb.sql(QUERY.format(folder / "results.parquet")).fetchall()
    assert [(control, rows) for control, rows, _ in found] == [
        ("continue", 3),
        ("none", 9),
        ("reinit", 3),
        ("shuffle", 9),
    ]
    assert duckdb.sql(QUERY.format(folder / "results.csv")).fetchall() == found


def test_the_csv_has_the_same_rows(folder):
    table = pq.read_table(folder / "results.parquet")
    types = pa_csv.ConvertOptions(column_types=table.schema, strings_can_be_null=False)
    quoted = pa_csv.ParseOptions(newlines_in_values=True)
    read = pa_csv.read_csv(folder / "results.csv", parse_options=quoted, convert_options=types)
    assert read.equals(table)


@pytest.mark.cluster
def test_spark_reads_it(folder):
    from pyspark.sql import SparkSession

    spark = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
    try:
        frame = spark.read.parquet(str(folder / "results.parquet"))
        assert frame.columns == pq.read_schema(folder / "results.parquet").names
        assert frame.count() == 24
        assert frame.where("status = 'failed'").select("note").first()[0].startswith("out of memory")
    finally:
        spark.stop()
