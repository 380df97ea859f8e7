from fed_backend.demo.round_results import gate_entry, round_entry

RECORD = {
    "round": 2,
    "status": "finished",
    "sites": {"b": {"cases": 3}, "a": {"cases": 5}},
    "givers": ["b", "old", "a"],
    "noise": [0.2, 0.9, 0.1],
    "distance": [[0.0, 0.8, 0.4], [0.8, 0.0, 0.7], [0.4, 0.7, 0.0]],
    "weights": {"a": {"a": 0.75, "b": 0.25}, "b": {"b": 1.0}},
    "bytes": {"a": {"update": 100, "probe_request": 101, "probe_reply": 20, "mixture": 102}},
    "refusals": [{"site": "c", "phase": "update", "reason": "base"}],
    "verdicts": {"a": {"verdict": "promoted", "reason": "better", "candidate": "1234", "figures": {"x": 1}}},
}


def test_matrices_are_put_into_the_order_of_the_sites() -> None:
    entry = round_entry(RECORD, due="d", started="s", seconds=3.0)
    assert entry["sites"] == ["a", "b"]
    assert entry["distance"] == [[0.0, 0.4], [0.4, 0.0]]
    assert entry["noise"] == [0.1, 0.2]
    assert entry["weights"] == [[0.75, 0.25], [0.0, 1.0]]


def test_bytes_go_up_or_down() -> None:
    entry = round_entry(RECORD, due="d", started="s", seconds=3.0)
    assert entry["bytes"]["a"] == {
        "update": {"up": 100, "down": 0},
        "probe_request": {"up": 0, "down": 101},
        "probe_reply": {"up": 20, "down": 0},
        "mixture": {"up": 0, "down": 102},
    }
    assert entry["refusals"] == [{"site": "c", "phase": "update", "reason": "base"}]


def test_a_site_that_was_never_compared_leaves_no_matrix() -> None:
    assert round_entry({**RECORD, "givers": ["b"]}, due="", started="", seconds=0)["distance"] is None
    holes = {**RECORD, "distance": [[0.0, None, None], [None, 0.0, None], [None, None, 0.0]]}
    assert round_entry(holes, due="", started="", seconds=0)["distance"] is None
    assert round_entry({**RECORD, "distance": [], "noise": []}, due="", started="", seconds=0)["noise"] is None


def test_the_gate_of_a_round() -> None:
    gate = gate_entry(RECORD, "a")
    assert gate is not None
    assert (gate["after"], gate["version"], gate["verdict"]) == ("round 2", "1234", "promoted")
    assert gate_entry(RECORD, "b") is None
