"""Extraction on one thread: its numbers are compared to the last bit."""

import pytest
import torch


@pytest.fixture(scope="package", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)
