"""The error tree: every class says something useful by itself."""

import inspect

import pytest

from hidream_server import errors
from hidream_server.errors import (
    ConfigurationError,
    FieldProblem,
    Finding,
    HiDreamError,
    InvalidRequestError,
    ModelDirectoryError,
    TaskNotFoundError,
)

CLASSES = [
    cls
    for _, cls in inspect.getmembers(errors, inspect.isclass)
    if issubclass(cls, Exception) and cls.__module__ == errors.__name__
]
PLAIN = [cls for cls in CLASSES if cls.__init__ is HiDreamError.__init__]


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_error_hangs_in_the_one_tree_and_is_named_like_an_error(cls):
    assert issubclass(cls, HiDreamError)
    assert cls.__name__.endswith("Error")


@pytest.mark.parametrize("cls", PLAIN, ids=lambda cls: cls.__name__)
def test_the_docstring_is_the_message_unless_one_is_given(cls):
    assert str(cls()) == cls.__doc__
    assert str(cls("Something else.")) == "Something else."


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_docstring_is_one_sentence_of_its_own(cls):
    assert ". " not in cls.__doc__
    assert cls.__doc__.endswith(".")
    assert "\n" not in cls.__doc__
    assert sum(other.__doc__ == cls.__doc__ for other in CLASSES) == 1


def test_the_code_is_the_class_name_in_snake_case_and_unique():
    assert TaskNotFoundError().code == "task_not_found"
    assert ConfigurationError().code == "configuration"
    codes = [cls([]).code if cls not in PLAIN else cls().code for cls in CLASSES]
    assert len(set(codes)) == len(codes)


def test_a_model_directory_error_counts_and_shows_every_finding():
    findings = [Finding("/m/vae", "is missing"), Finding("/m/model_index.json", "is missing")]
    error = ModelDirectoryError(findings)
    assert error.findings == findings
    assert "2 problem(s)" in str(error)
    for finding in findings:
        assert f"{finding.path}: {finding.problem}" in str(error)


def test_an_invalid_request_error_shows_every_field_and_what_is_allowed():
    error = InvalidRequestError([FieldProblem("seed", -1, "0 to 9"), FieldProblem("x", 2, "none")])
    assert str(error) == "seed: 0 to 9; x: none"
    assert [problem.value for problem in error.problems] == [-1, 2]
