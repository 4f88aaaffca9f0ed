"""Vectors of a frozen encoder: made once, shared between processes, whole whatever is killed."""

import multiprocessing
import os
import signal
import time
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trainables.parts import embeddings
from trainables.parts.batches import tokens_of
from trainables.parts.embeddings import frozen_embeddings
from trainables.parts.encoders import EncoderSettings, load_encoder
from trainables.parts.pooling import embed_all

TEXTS = ["the dog", "near the river a cat", "zebra"]
FORK = multiprocessing.get_context("fork")


def trial(file: Path, seconds: float, told: "Queue[str]") -> None:
    """A trial that takes its time under the lock, with a half-written file beside."""

    def make() -> np.ndarray:
        file.with_suffix(".part").write_bytes(b"half")
        told.put("begun")
        time.sleep(seconds)
        return np.arange(6, dtype=np.float32)

    told.put(f"read {embeddings.stored(file, make).sum():g}")


def start(file: Path, seconds: float) -> tuple[Any, "Queue[str]"]:
    told: Queue[str] = FORK.Queue()
    process = FORK.Process(target=trial, args=(file, seconds, told), daemon=True)
    process.start()
    return process, told


def expected() -> np.ndarray:
    encoder = load_encoder(EncoderSettings(), 0)
    return embed_all(encoder.model, tokens_of(encoder.tokenizer, TEXTS, encoder.max_length))


def test_the_vectors_are_the_encoders_and_are_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    real = embeddings.embed_all
    monkeypatch.setattr(embeddings, "embed_all", lambda *arguments: made.append(1) or real(*arguments))
    for _ in range(2):
        vectors = frozen_embeddings(load_encoder(EncoderSettings(), 0), TEXTS, tmp_path / "shared")
        assert (vectors == expected()).all()
    assert len(made) == 1


def test_other_texts_and_other_encoders_have_files_of_their_own(tmp_path: Path) -> None:
    encoder = load_encoder(EncoderSettings(), 0)
    frozen_embeddings(encoder, TEXTS, tmp_path)
    frozen_embeddings(encoder, TEXTS[::-1], tmp_path)
    frozen_embeddings(encoder, ["the dognear", *TEXTS[1:]], tmp_path)
    frozen_embeddings(load_encoder(EncoderSettings(), 1), TEXTS, tmp_path)
    frozen_embeddings(load_encoder(EncoderSettings(layers=1), 0), TEXTS, tmp_path)
    assert len(list(tmp_path.glob("*.npy"))) == 5
    assert not list(tmp_path.glob("*.part"))


def test_a_trial_cannot_change_them(tmp_path: Path) -> None:
    vectors = frozen_embeddings(load_encoder(EncoderSettings(), 0), TEXTS, tmp_path)
    assert isinstance(vectors, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        vectors[0] = 0


def test_one_process_is_killed_at_work_and_the_other_one_finishes(tmp_path: Path) -> None:
    file = tmp_path / "vectors.npy"
    killed, at_work = start(file, 600)
    assert at_work.get(timeout=60) == "begun"
    waiting, finished = start(file, 0)
    time.sleep(0.2)  # lets it come to the lock; the outcome is the same if it does not
    assert finished.empty()
    assert not file.exists()
    os.kill(killed.pid, signal.SIGKILL)
    assert [finished.get(timeout=60), finished.get(timeout=60)] == ["begun", "read 15"]
    waiting.join()
    assert np.load(file).tolist() == [0, 1, 2, 3, 4, 5]
    assert not file.with_suffix(".part").exists()


def test_processes_at_once_do_the_work_once(tmp_path: Path) -> None:
    started = [start(tmp_path / "vectors.npy", 0.2) for _ in range(4)]
    for process, _ in started:
        process.join(timeout=60)
    said = [told.get(timeout=60) for _, told in started]
    assert sorted(said) == ["begun", "read 15", "read 15", "read 15"]
