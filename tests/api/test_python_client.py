"""The Python client and its command line, against a real server."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from quarterdeck import ApiError, AsyncClient, Client
from quarterdeck.cli import main

from scheduling import models
from tests.scheduling.placed import make_queue, place

from .test_outcomes import BEFORE, MINUTE, end


@pytest.fixture
def client(server):
    with Client(server.url, server.token) as client:
        yield client


def test_client_submits_once_and_follows_to_the_end(client, write_lists):
    accepted = client.submit([1001, "1002"], task_name="November", idempotency_key="k")
    again = client.submit([1001, "1002"], task_name="November", idempotency_key="k")
    assert (accepted.replayed, again.replayed) == (False, True)
    assert accepted.task is not None
    assert again.task == accepted.task
    assert accepted.task.counts["ids"] == 2
    assert sum(accepted.plan.windows[0].added) == 2
    write_lists()
    following = client.follow(accepted.task.id, every=0.01)
    assert next(following).state == "placed"
    assert client.cancel(accepted.task.id) == {"cancelled": 2, "already_sent": 0, "in_flight": 0}
    assert [task.state for task in following] == ["cancelled"]


def test_client_streams_a_file_and_reports_progress(client, tmp_path):
    path = tmp_path / "ids.csv"
    path.write_text("user_id,name\n" + "".join(f"{n},Ann\n" for n in range(1, 50_001)))
    sent: list[int] = []
    accepted = client.submit(path, task_name="file", dry_run=True, progress=sent.append)
    assert accepted.task is None
    assert "50,000 IDs" in accepted.message
    assert sent == sorted(sent)
    assert sent[-1] == path.stat().st_size


def test_client_raises_what_is_refused(client):
    with pytest.raises(ApiError) as raised:
        client.submit([1, "x"], task_name="bad")
    assert (raised.value.kind, raised.value.status) == ("bad-list", 422)
    with pytest.raises(ApiError):
        client.task(999)


def test_client_walks_the_pages_of_a_list(client):
    for n in range(5):
        client.request("POST", "/users/", json={"id": n + 1, "name": "x"})
    assert [user["id"] for user in client.rows("/users/", limit=2, name="x")] == [5, 4, 3, 2, 1]


def test_client_reads_outcomes_and_follows_them(client, server):
    task = place(make_queue("mail", rpm=60), {MINUTE: [7, 8, 9]}, at=BEFORE)
    assert list(client.outcomes()) == []
    end(task, 7, 8)
    both = list(client.outcomes(task=task.pk))
    assert [(item.id, item.status) for item in both] == [("7", "succeeded"), ("8", "succeeded")]
    assert [item.id for item in client.outcomes(after=both[0].cursor, queue="mail")] == ["8"]
    following = client.outcomes(after=both[1].cursor, follow=True)
    with ThreadPoolExecutor() as pool:
        further = pool.submit(next, following)
        end(task, 9)
        assert further.result(30).id == "9"

    async def ids() -> list[str]:
        async with AsyncClient(server.url, server.token) as client:
            return [item.id async for item in client.outcomes()]

    assert asyncio.run(ids()) == ["7", "8", "9"]


def test_command_line_prints_outcomes(server, capsys):
    task = place(make_queue("mail", rpm=60), {MINUTE: [7]}, at=BEFORE)
    end(task, 7)
    assert main(["--url", server.url, "--token", server.token, "outcomes", "--queue", "mail"]) == 0
    assert json.loads(capsys.readouterr().out)["user_id"] == 7


def test_async_client_does_the_same(server, tmp_path):
    (tmp_path / "ids.txt").write_text("1,2,3")

    async def use() -> list[str]:
        async with AsyncClient(server.url, server.token) as client:
            accepted = await client.submit(tmp_path / "ids.txt", task_name="async")
            assert accepted.task is not None
            await client.cancel(accepted.task.id)
            assert len([row async for row in client.rows("/celery_ids_tasks/")]) == 1
            return [task.state async for task in client.follow(accepted.task.id)]

    assert asyncio.run(use()) == ["cancelled"]


def test_command_line_sends_a_file_and_draws_its_plan(server, tmp_path, capsys):
    path = tmp_path / "ids.csv"
    path.write_text("1\n2\n3\n")
    command = ["--url", server.url, "--token", server.token, "send", str(path)]
    assert main([*command, "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "3 IDs" in shown
    assert "|\u2588              | 3 IDs" in shown
    assert not models.Task.objects.exists()
    assert main([*command, "--name", "sent", "--queue", "default", "--expect", "3"]) == 0
    assert models.Task.objects.get().name == "sent"
    assert main([*command, "--queue", "nosuch"]) == 1
    assert "no queue named nosuch" in capsys.readouterr().err
