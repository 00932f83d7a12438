"""A pytest plugin for the emulated machine, where a test takes ten times as long: of a test with many parameters it keeps every n-th set and the last.

The choice depends on nothing but the tests' order. The whole matrix runs on the host in `make test`.
"""


def pytest_addoption(parser):
    parser.addoption("--every", type=int, default=1, metavar="N", help="keep every N-th set of parameters of a test, and the last")


def pytest_collection_modifyitems(config, items):
    every, groups = config.getoption("--every"), {}
    for item in items:
        if item.path.parent.name == "arm64":  # these are here for the emulated machine
            groups[item.nodeid] = [item]
            continue
        groups.setdefault((item.path, getattr(item, "originalname", item.name)), []).append(item)
    kept = {id(item) for group in groups.values() for i, item in enumerate(group) if i % every == 0 or i == len(group) - 1}
    config.hook.pytest_deselected(items=[item for item in items if id(item) not in kept])
    items[:] = [item for item in items if id(item) in kept]
