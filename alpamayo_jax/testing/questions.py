"""A small table of questions about drives, with its images, for tests."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from alpamayo_jax.testing.videos import numbered_frame

NUM_IMAGES = 5


def write_questions(root: str | Path, count: int, suffix: str = ".jsonl") -> Path:
    """Writes `count` questions with five images each; returns the table."""
    root = Path(root)
    rows = []
    for number in range(count):
        folder = root / "images" / f"segment{number}"
        folder.mkdir(parents=True, exist_ok=True)
        names = []
        for frame in range(NUM_IMAGES):
            image = numbered_frame(NUM_IMAGES * number + frame)
            Image.fromarray(np.ascontiguousarray(image)).save(folder / f"{frame}.png")
            names.append(f"images/segment{number}/{frame}.png")
        rows.append(
            {
                "question_id": f"q{number}",
                "segment_id": f"segment{number}",
                "images": names,
                "question": f"What is ahead of the car, number {number}?",
                "answer": "A pedestrian who crosses." if number % 2 else "Nothing.",
            }
        )
    path = root / f"questions{suffix}"
    if suffix == ".parquet":
        from alpamayo_jax.testing.physical_ai import write_parquet

        write_parquet(path, {name: [row[name] for row in rows] for name in rows[0]})
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
