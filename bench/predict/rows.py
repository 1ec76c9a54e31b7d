"""Rows of build/bench/predict.json: a benchmark replaces its own and leaves those of the others."""

import json


def write_rows(path, prefix, rows):
    """prefix: what the names of this benchmark's rows begin with."""
    kept = json.loads(path.read_text()) if path.exists() else []
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([r for r in kept if not r["name"].startswith(prefix)] + rows, indent=1, ensure_ascii=False) + "\n")
    print(f"\n{len(rows)} rows in {path}")


def row(name, ours, peer, peer_name, unit, conditions, better_high=False):
    above, below = (ours, peer) if better_high else (peer, ours)
    return {"name": name, "ours": round(ours, 4), "peer": None if peer is None else round(peer, 4), "peer_name": peer_name,
            "ratio": round(above / below, 3) if peer and ours else None, "unit": unit, "conditions": conditions}
