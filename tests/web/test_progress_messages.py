import json

from gateway.web.progress_messages import PAGE_BYTES, PAGE_TASKS, Message, PageMaker, task_message


def pages(documents: list[str]) -> list[str]:
    maker = PageMaker()
    return [*maker.add(documents), maker.last()]


def test_a_snapshot_of_nothing_is_one_message() -> None:
    assert pages([]) == ['{"type":"snapshot","tasks":[],"more":false}']


def test_s6_a_snapshot_is_cut_into_messages_and_the_last_says_so() -> None:
    documents = [f'{{"id":"{number}"}}' for number in range(2 * PAGE_TASKS + 1)]

    read = list(map(json.loads, pages(documents)))

    assert [(len(page["tasks"]), page["more"]) for page in read] == [(100, True), (100, True), (1, False)]
    assert [task["id"] for page in read for task in page["tasks"]] == [str(n) for n in range(201)]
    assert [json.loads(page)["more"] for page in pages(documents[:PAGE_TASKS])] == [False]


def test_s6_no_message_is_above_64_kib_whatever_the_keys() -> None:
    largest = json.dumps({"key": "键" * 283, "location": "%E9%94%AE" * 283, "result": {"key": "键" * 283}})
    cut = pages([largest] * 500)

    assert sum(len(json.loads(page)["tasks"]) for page in cut) == 500
    assert max(len(page.encode()) for page in cut) < 64 * 1024
    assert min(len(page.encode()) for page in cut[:-1]) > PAGE_BYTES


def test_a_loss_is_told_whatever_came_after_it() -> None:
    loss, task = task_message("{}", is_loss=True), task_message('{"id":1}', is_loss=False)

    assert task.text == '{"type":"task","task":{"id":1}}'
    assert task.instead_of(None) is task.instead_of(task) is task
    assert task.instead_of(loss).text == '{"type":"part_lost","task":{"id":1}}'
    assert task.instead_of(loss).is_loss
    assert loss.instead_of(Message("{}")) is loss
