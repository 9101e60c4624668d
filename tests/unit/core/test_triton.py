"""What clients of Triton share."""

from __future__ import annotations

import sys

import pytest

from plumbline.core.errors import FailedPreconditionError
from plumbline.core.triton import TritonError, import_tritonclient, triton_error


@pytest.mark.parametrize(
    ("code", "message", "passing", "no_model"),
    [
        ("UNAVAILABLE", "failed to connect to all addresses", True, False),
        ("INTERNAL", "Stub process 'llama_0_0' is not healthy.", True, False),
        ("INTERNAL", "Error generating stream: no", False, False),
        ("NOT_FOUND", "no such thing", False, True),
        ("UNKNOWN", "Request for unknown model: 'gpt' is not found", False, True),
        ("INVALID_ARGUMENT", "unexpected shape", False, False),
    ],
)
def test_errors_say_whether_they_pass(
    code: str, message: str, passing: bool, no_model: bool
) -> None:
    error = TritonError(code, message)
    assert (error.is_passing, error.is_about_no_model) == (passing, no_model)


@pytest.mark.parametrize(
    ("status", "code"), [("StatusCode.NOT_FOUND", "NOT_FOUND"), (None, "UNKNOWN")]
)
def test_errors_of_tritonclient_keep_their_code(status: str | None, code: str) -> None:
    exceptions = pytest.importorskip("tritonclient.utils", reason="tritonclient is not installed")
    error = triton_error(exceptions.InferenceServerException("no such luck", status=status))
    assert (error.code, str(error)) == (code, "no such luck")


def test_a_missing_package_is_named_with_what_does_without_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "tritonclient", None)
    monkeypatch.setitem(sys.modules, "tritonclient.grpc", None)
    with pytest.raises(FailedPreconditionError, match=r"plumbline\[triton\] or set A=b") as caught:
        import_tritonclient("grpc", purpose="scores", instead="A=b")
    assert caught.value.reason == "NO_TRITONCLIENT"
