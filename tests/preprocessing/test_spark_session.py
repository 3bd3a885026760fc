"""Stopping Spark: quietly, and whether or not there is still one."""

from __future__ import annotations

from unittest.mock import Mock, call

import pytest
from py4j.protocol import Py4JNetworkError

from preprocessing.common.spark_session import stop


def test_spark_says_nothing_of_the_tasks_that_it_breaks_off():
    context = Mock()
    stop(context)
    assert context.mock_calls == [call.setLogLevel("OFF"), call.stop()]


@pytest.mark.parametrize("error", [Py4JNetworkError("gone"), ConnectionRefusedError("gone"), AttributeError("_jsc")])
def test_a_spark_that_has_ended_is_left_alone(error):
    stop(Mock(**{"setLogLevel.side_effect": error, "stop.side_effect": error}))


def test_a_spark_whose_log_level_cannot_be_set_is_stopped_all_the_same():
    context = Mock(**{"setLogLevel.side_effect": Py4JNetworkError("no answer")})
    stop(context)
    assert context.stop.called
