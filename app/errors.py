"""The one error tree of the program.

AudioVoiceError
├── InputError              400  what the caller sent is wrong; `param` names the field
│   ├── NotFoundError       404  unknown voice, model or route
│   ├── ConflictError       409  the name is taken
│   ├── TooLargeError       413  text, upload or clip over its limit
│   └── MediaTypeError      415  the upload is no audio we can read
├── AuthError               401  no key, or a wrong one
├── RefusedError            403  a policy says no (licence not accepted, consent missing)
├── BusyError               429  the queue is full; try again after `retry_after_s`
├── UnavailableError        503  not now: loading, worker lost, shutting down
├── DoesNotFitError         507  the model needs more memory than its budget allows at all
├── OutputError             500  the audio made did not pass its checks; a retry would not help
├── ModelFileError          500  a model file is missing, truncated or of the wrong shape
├── SettingsError           500  `.env` or the environment is wrong; the program stops with code 2
├── DeviceError             500  the device failed while it worked
└── RequestCancelledError      499  the client left; nobody reads this answer

Every error carries one clear sentence that names the field and the remedy. Errors of other
libraries are mapped to these at the one place that calls the library. Knows nothing of HTTP but
the status that fits, and nothing of the wire but `to_dict` and `from_dict`.
"""

from __future__ import annotations

from typing import Any, ClassVar


class AudioVoiceError(Exception):
    """Base of all errors of this program.

    Args:
        message: one sentence for a person: what is wrong, and what to do.
        param: the request field or setting that is wrong, if one is.
        code: a short machine-readable word, `snake_case`; the class's own if left out.
        retry_after_s: seconds after which another try makes sense, or None.
    """

    status: ClassVar[int] = 500
    error_type: ClassVar[str] = "server_error"
    default_code: ClassVar[str] = "internal_error"
    #: False where the same request would fail again, so clients must not retry by themselves.
    should_retry: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code or self.default_code
        self.retry_after_s = retry_after_s

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data that `from_dict` turns back into the same error."""
        return {
            "kind": type(self).__name__,
            "message": self.message,
            "param": self.param,
            "code": self.code,
            "retry_after_s": self.retry_after_s,
        }

    @staticmethod
    def from_dict(data: dict[str, Any]) -> AudioVoiceError:
        """Rebuilds an error that crossed a process boundary; an unknown kind stays a base error."""
        kind = _KINDS.get(str(data.get("kind")), AudioVoiceError)
        return kind(
            str(data.get("message", "unknown error")),
            param=data.get("param"),
            code=data.get("code"),
            retry_after_s=data.get("retry_after_s"),
        )


class InputError(AudioVoiceError):
    """What the caller sent is wrong."""

    status = 400
    error_type = "invalid_request_error"
    default_code = "invalid_value"


class NotFoundError(InputError):
    """The voice, model or route named does not exist."""

    status = 404
    default_code = "not_found"


class ConflictError(InputError):
    """The name is taken already."""

    status = 409
    default_code = "already_exists"


class TooLargeError(InputError):
    """Text, upload or clip is over its limit."""

    status = 413
    default_code = "too_large"


class MediaTypeError(InputError):
    """The upload is no audio that can be read."""

    status = 415
    default_code = "unsupported_media_type"


class AuthError(AudioVoiceError):
    """No API key, or a wrong one."""

    status = 401
    error_type = "authentication_error"
    default_code = "invalid_api_key"


class RefusedError(AudioVoiceError):
    """A policy says no: a licence not accepted, a consent missing."""

    status = 403
    error_type = "permission_error"
    default_code = "refused"


class BusyError(AudioVoiceError):
    """The queue is full."""

    status = 429
    error_type = "rate_limit_error"
    default_code = "queue_full"
    should_retry = True


class UnavailableError(AudioVoiceError):
    """Not now: the model is loading, the worker was lost, or the service is stopping."""

    status = 503
    error_type = "service_unavailable"
    default_code = "unavailable"
    should_retry = True


class DoesNotFitError(AudioVoiceError):
    """The model needs more memory than its budget allows, whatever else is unloaded."""

    status = 507
    default_code = "does_not_fit"


class OutputError(AudioVoiceError):
    """The audio made did not pass its checks, retries included."""

    default_code = "output_invalid"


class ModelFileError(AudioVoiceError):
    """A model file is missing, truncated or of the wrong shape."""

    default_code = "model_file"


class SettingsError(AudioVoiceError):
    """`.env` or the environment holds something wrong."""

    default_code = "settings"


class DeviceError(AudioVoiceError):
    """The device failed while it worked."""

    default_code = "device"


class RequestCancelledError(AudioVoiceError):
    """The client left before its answer was ready."""

    status = 499
    default_code = "cancelled"


def _all_kinds(base: type[AudioVoiceError]) -> dict[str, type[AudioVoiceError]]:
    kinds = {base.__name__: base}
    for sub in base.__subclasses__():
        kinds.update(_all_kinds(sub))
    return kinds


_KINDS = _all_kinds(AudioVoiceError)
