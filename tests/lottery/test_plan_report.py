"""What `--plan` says of work, hours and price."""

from lottery.driver import plan_report
from lottery.run.run_directory import DenseResult
from lottery.tickets.scheduling import Estimate, Schedule
from lottery.tickets.tickets import Ticket

WORK = Schedule(((Ticket(0, 0), Ticket(0, 100), Ticket(3, 0)), (Ticket(1, 0),)))


def cost(ticket):
    return 1000 - ticket.step


def dense(**fields):
    whole = {"status": "done", "note": "", "top1": 0.9, "top5": 1.0, "loss": 0.1, "evaluated": 10, "steps": 1000}
    return DenseResult(**{**whole, "seconds": 500.0, "parameters": 10, "prunable": 9, **fields})


def test_a_step_takes_what_it_took_the_dense_run():
    assert plan_report.seconds_per_step(dense(), 32, None) == 0.5
    assert plan_report.seconds_per_step(dense(executors=4), 32, None) == 2.0
    assert plan_report.seconds_per_step(dense(), 32, 64.0) == 0.5
    assert plan_report.seconds_per_step(None, 32, 320.0) == 0.1
    assert plan_report.seconds_per_step(None, 32, None) is None
    assert plan_report.seconds_per_step(dense(steps=0), 32, None) is None  # diverged at once


def test_each_task_has_a_line():
    assert plan_report.gang_lines(WORK, cost, 1, None, None) == [
        "  task 0: 3 trainings of levels 0, 3, 2,900 steps",
        "  task 1: 1 training of level 1, 1,000 steps",
    ]
    assert plan_report.gang_lines(WORK, cost, 2, 2, 7.2) == [
        "  tasks 0 to 1: 3 trainings of levels 0, 3 in 2 bundles, 2,900 steps, 2.9 h",
        "  tasks 2 to 3: 1 training of level 1 in 1 bundle, 1,000 steps, 1.0 h",
    ]


def test_speed_up_is_of_the_tasks():
    assert plan_report.speed_line(WORK, cost, 2, 5) == "gang: 4 tasks on 5 slots, S = 1.34, E = 0.67"


def test_hours_and_price():
    assert "not known" in plan_report.price_line(None, 2.0)
    assert plan_report.price_line(Estimate(131.0, 2620.0), None) == "estimate: 131.0 h, 2,620.0 executor-hours"
    assert plan_report.price_line(Estimate(0.5, 1.0), 3.06) == (
        "estimate: 30.0 min, 1.0 executor-hours, 3.06 at 3.06 an hour of an executor"
    )
