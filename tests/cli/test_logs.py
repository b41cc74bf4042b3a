"""Log lines: klog-like text, JSON, verbosity, per-file verbosity, nothing secret."""

from __future__ import annotations

import json
import logging
import re
import sys
from typing import TYPE_CHECKING, Any

import pytest

from csisidecar.cli import logs
from csisidecar.cli.logs import LogSettings
from csisidecar.cli.values import Values, read
from csisidecar.errors import ConfigError, CSIError, StatusCode
from csisidecar.logs import JSONFormatter, LogFormatter, verbosity_of

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def untouched_logging() -> Iterator[None]:
    """Puts back what `set_up` changes in the process."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    levels = {name: logging.getLogger(name).level for name in ("asyncio", "grpclib", "aiohttp")}
    yield
    root.handlers, root.level = handlers, level
    for name, old in levels.items():
        logging.getLogger(name).setLevel(old)
    logging.captureWarnings(False)


def record(message: str = "did it", level: int = logging.INFO, error: BaseException | None = None, **extra: Any) -> Any:
    made = logging.getLogger("csisidecar.x").makeRecord(
        "csisidecar.x",
        level,
        "/src/csisidecar/runtime/lease.py",
        12,
        message,
        (),
        (type(error), error, None) if error else None,
        extra=extra,
    )
    made.process = 1234
    return made


@pytest.mark.parity("R-LOG-01")
def test_text_lines_look_like_klog() -> None:
    line = LogFormatter().format(record(driver="d.example", attempt=2, done=True, names=["a", "b"]))
    assert re.fullmatch(
        r'I\d{4} \d\d:\d\d:\d\d\.\d{6}    1234 lease\.py:12\] "did it"'
        r' driver="d\.example" attempt=2 done=true names=\["a", "b"\]',
        line,
    )


@pytest.mark.parametrize(("level", "letter"), [(10, "I"), (18, "I"), (20, "I"), (30, "W"), (40, "E"), (50, "E")])
def test_severity_letters(level: int, letter: str) -> None:
    assert LogFormatter().format(record(level=level))[0] == letter


def test_a_text_line_stays_one_line() -> None:
    line = LogFormatter().format(record("a\nb", level=40, error=ConfigError("first\nsecond"), reason="x\ny"))
    assert "\n" not in line
    assert 'err="first\\nsecond"' in line


def test_json_lines_have_klogs_keys() -> None:
    line = json.loads(JSONFormatter().format(record(level=18, driver="d.example", attempt=2)))
    assert line.pop("ts") > 1_600_000_000_000
    assert line == {
        "caller": "runtime/lease.py:12",
        "msg": "did it",
        "v": 2,
        "driver": "d.example",
        "attempt": 2,
    }


def test_json_errors_have_err_and_no_v() -> None:
    error = CSIError("Probe", StatusCode.INTERNAL, "boom")
    line = json.loads(JSONFormatter().format(record(level=40, error=error)))
    assert line["err"] == "rpc error: code = Internal desc = boom"
    assert "v" not in line
    assert "stacktrace" not in line


def test_an_unforeseen_error_has_its_traceback() -> None:
    try:
        raise ValueError("odd")
    except ValueError as error:
        made = record(level=40)
        made.exc_info = (ValueError, error, error.__traceback__)
    assert "Traceback" in LogFormatter().format(made)
    assert "Traceback" in json.loads(JSONFormatter().format(made))["stacktrace"]


@pytest.mark.parametrize("field", ["secrets", "token", "Authorization"])
def test_secret_fields_are_stripped(field: str) -> None:
    for formatter in (LogFormatter(), JSONFormatter()):
        made = record()
        setattr(made, field, "hunter2")
        assert "hunter2" not in formatter.format(made)
        assert "hunter2" not in formatter.format(record(request={"a": {field: "hunter2"}}))


def test_csi_messages_are_logged_without_their_secrets() -> None:
    csi = pytest.importorskip("csisidecar.csi")
    request = csi.DeleteVolumeRequest(volume_id="v1", secrets={"password": "hunter2"})
    for formatter in (LogFormatter(), JSONFormatter()):
        line = formatter.format(record(request=request))
        assert "v1" in line
        assert "hunter2" not in line


@pytest.mark.parametrize(
    ("verbosity", "level"), [(0, 20), (1, 19), (2, 18), (3, 17), (4, 16), (5, 10), (6, 10), (100, 10)]
)
def test_verbosity_is_a_level(verbosity: int, level: int) -> None:
    assert logs.level_of(verbosity) == level


def test_levels_have_a_verbosity() -> None:
    assert [verbosity_of(level) for level in (40, 20, 19, 16, 10)] == [0, 0, 1, 4, 5]


def emitted(capsys: pytest.CaptureFixture[str], settings: LogSettings) -> set[int]:
    logs.set_up(settings)
    for level in (10, 16, 17, 18, 19, 20, 30):
        logging.getLogger("csisidecar.x").log(level, "level %d", level)
    return {int(number) for number in re.findall(r"level (\d+)", capsys.readouterr().err)}


@pytest.mark.parity("R-LOG-02")
@pytest.mark.usefixtures("untouched_logging")
@pytest.mark.parametrize(
    ("verbosity", "levels"), [(0, {20, 30}), (2, {18, 19, 20, 30}), (5, {10, 16, 17, 18, 19, 20, 30})]
)
def test_what_each_verbosity_shows(capsys: pytest.CaptureFixture[str], verbosity: int, levels: set[int]) -> None:
    assert emitted(capsys, LogSettings(verbosity=verbosity)) == levels
    assert emitted(capsys, LogSettings(verbosity=verbosity, json=True)) == levels


@pytest.mark.usefixtures("untouched_logging")
@pytest.mark.parametrize(
    ("pattern", "levels"),
    [
        ("test_logs=3", {17, 18, 19, 20, 30}),
        ("test_*=5", {10, 16, 17, 18, 19, 20, 30}),
        ("cli/test_logs=3", {17, 18, 19, 20, 30}),
        ("other=5", {20, 30}),
        ("test_logs=0", {20, 30}),
    ],
)
def test_vmodule_adds_lines_of_a_file(capsys: pytest.CaptureFixture[str], pattern: str, levels: set[int]) -> None:
    vmodule = tuple((name, int(level)) for name, level in [pattern.split("=")])
    assert emitted(capsys, LogSettings(vmodule=vmodule)) == levels


@pytest.mark.usefixtures("untouched_logging")
def test_libraries_are_quiet_below_6(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up(LogSettings(verbosity=5))
    logging.getLogger("grpclib.client").info("chatter")
    logging.getLogger("grpclib.client").warning("trouble")
    told = capsys.readouterr().err
    assert "chatter" not in told
    assert re.match(r"W\d{4} ", told)
    logs.set_up(LogSettings(verbosity=6))
    logging.getLogger("grpclib.client").info("chatter")
    assert "chatter" in capsys.readouterr().err


@pytest.mark.usefixtures("untouched_logging")
def test_everything_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up(LogSettings())
    assert isinstance(logging.getLogger().handlers[0], logging.StreamHandler)
    logging.getLogger("csisidecar.x").info("hello")
    captured = capsys.readouterr()
    assert (captured.out, "hello" in captured.err) == ("", True)
    assert sys.stderr is not None


@pytest.mark.parametrize(
    "word",
    [
        "--logging-format=xml",
        "--log-flush-frequency=0",
        "--log-flush-frequency=-1s",
        "--log-text-split-stream",
        "--log-json-split-stream=true",
        "--log-text-info-buffer-size=1k",
        "--log-json-info-buffer-size=512",
    ],
)
def test_log_flags_the_go_sidecars_refuse(word: str) -> None:
    with pytest.raises(ConfigError, match=word.split("=")[0]):
        logs.settings_from(Values(given=read([word]).values))


def test_vmodule_and_json_exclude_each_other() -> None:
    with pytest.raises(ConfigError, match="--vmodule"):
        logs.settings_from(Values(given=read(["--vmodule=a=1", "--logging-format=json"]).values))
