"""A made-up result for tests of checks, tables and report. The numbers mean nothing; the names are as hostile as they get."""

from typing import Any

from fed_backend.demo.result import SCHEMA, DemoResult, DiceEntry, HospitalEntry, Kind, RoundEntry

PHASES = (("base", "Base"), ("tuning-1", "Local tuning 1"), ("round-1", "Round 1"), ("tuning-2", "Local tuning 2"), ("round-2", "Round 2"))


def dice_entries(values: dict[Kind, list[float]]) -> list[DiceEntry]:
    return [
        {"phase": phase, "kind": kind, "version": f"v{number}", "mean": value, "cases": {"t1": value}, "reused": number == 3}
        for kind, row in values.items()
        for number, ((phase, _), value) in enumerate(zip(PHASES, row, strict=True))
    ]


def hospital(name: str, values: dict[Kind, list[float]], **changes: Any) -> HospitalEntry:
    entry: HospitalEntry = {
        "name": name,
        "note": "a note",
        "address": "http://127.0.0.1:1",
        "cases": {"train": 8, "val": 2, "test": 3, "labelled_train": 6, "labelled_val": 2},
        "scored_test_cases": ["t1", "t2"],
        "test_slices": 10,
        "fill_the_box": 0.76,
        "dice": dice_entries(values),
        "labels": [
            {
                "case": "c1",
                "part": "val",
                "wave": 1,
                "chosen_by": "validation first",
                "version": "base",
                "box": 0.7,
                "point": 0.1,
                "seconds": 2.0,
            },
            {"case": "c2", "part": "train", "wave": 1, "chosen_by": "first", "version": "base", "box": 0.8, "point": None, "seconds": 2.0},
            {"case": "c3", "part": "train", "wave": 2, "chosen_by": "first", "version": "v1", "box": 0.9, "point": 0.6, "seconds": 2.0},
        ],
        "tunings": [{"wave": 1, "status": "done", "labels": 3, "version": "0123456789abcdef", "seconds": 31.0}],
        "gates": [
            {"after": "local tuning 1", "version": "0123456789abcdef", "verdict": "promoted", "reason": "box 0.70 to 0.80", "figures": {}},
            {
                "after": "round 1",
                "version": "fedcba9876543210",
                "verdict": "rejected",
                "reason": "point fell by 0.03",
                "figures": {"point": 0.1},
            },
        ],
        "validation": {"cases": 2, "version": "0123456789abcdef", "base": {"box": 0.7, "point": 0.1}, "active": {"box": 0.8, "point": 0.6}},
        "active_version": "0123456789abcdef",
    }
    entry.update(changes)  # type: ignore[typeddict-item]
    return entry


def round_entry(number: int, sites: list[str], *, probe: bool = True) -> RoundEntry:
    count = len(sites)
    return {
        "number": number,
        "due": "2030-01-01T00:01:00+00:00",
        "started": "2030-01-01T00:01:01+00:00",
        "seconds": 21.5,
        "sites": sites,
        "distance": [[abs(i - j) * 0.2 for j in range(count)] for i in range(count)] if probe else None,
        "noise": [0.1] * count if probe else None,
        "weights": [[0.8 if i == j else 0.2 / (count - 1) for j in range(count)] for i in range(count)],
        "bytes": {site: {"update": {"up": 106_512, "down": 310}, "mixture": {"up": 900, "down": 106_500}} for site in sites},
        "refusals": [],
    }


def example_result(names: tuple[str, ...] = ("riverside", "lakeside", "hillside")) -> DemoResult:
    hospitals = [
        hospital(
            name,
            {
                "box": [0.70, 0.78, 0.82, 0.82, 0.85],
                "point": [0.02, 0.51 + 0.1 * number, 0.60, 0.60, 0.70],
                "none": [0.0, 0.2, 0.35, 0.35, 0.52],
            },
        )
        for number, name in enumerate(names)
    ]
    started = [0.0, 20.0, 60.0, 90.0, 150.0]
    return {
        "schema": SCHEMA,
        "created": "2030-01-01T00:00:00+00:00",
        "seconds": 200.0,
        "data": {"kind": "virtual", "name": "3 virtual hospitals"},
        "options": {"seed": 0, "rounds": 2},
        "plan": {"image_size": 128, "test_slices": 4, "tune_steps": 16},
        "environment": {"base": "litemedsam", "cores": "2", "python": "3.11"},
        "no_prompt": {"measured": True, "reason": "Whole pictures.", "figures": {}},
        "phases": [
            {"id": key, "title": title, "scored": True, "started": start, "seconds": 20.0}
            for (key, title), start in zip(PHASES, started, strict=True)
        ],
        "hospitals": hospitals,
        "rounds": [round_entry(1, list(names)), round_entry(2, list(names), probe=False)],
        "checks": [
            {"id": "box_gain", "title": "Mean box Dice rises", "met": True, "text": "0.700 to 0.850"},
            {"id": "x", "title": "Not below base", "met": False, "text": "0.80 to 0.79"},
            {"id": "y", "title": "Something else", "met": None, "text": "not scored"},
        ],
        "problems": [],
    }
