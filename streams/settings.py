"""Every setting in one place: name, unit, default and the reason for the default.

Read from the environment (``ALIGNSTREAM_<NAME>``) and from a TOML file (``ALIGNSTREAM_CONFIG``, else
``alignstream.toml`` in the working folder); the environment wins. An unknown or malformed setting is an
error that names it.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import platformdirs
from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from alignstream.models.errors import LabelsError, RegistryError, SettingsError
from alignstream.models.labels.label_set import check_template
from alignstream.models.registry import layout

PREFIX = "ALIGNSTREAM_"
#: Environment variables with the prefix that are not settings.
NOT_SETTINGS = frozenset({"ALIGNSTREAM_CONFIG", "ALIGNSTREAM_DATA"})
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
#: Kafka's rule for topic names, applied to the prefix.
TOPIC_PREFIX_PATTERN = r"^[A-Za-z0-9._-]{0,150}$"

Bytes = Annotated[int, Field(ge=1024, le=64 * 1024 * 1024)]
Seconds = Annotated[float, Field(gt=0, le=3600)]


class Settings(BaseSettings):
    """The settings of a worker and of the tools around it.

    Each description gives the unit and the reason for the default; ``alignstream config`` prints them.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        extra="forbid",
        frozen=True,
        validate_default=True,
        env_ignore_empty=False,
    )

    # -- the broker --------------------------------------------------------------------------------
    broker: str = Field(
        "127.0.0.1:9092",
        description="Kafka bootstrap servers, host:port[,host:port...]. Default: a broker on this machine.",
    )
    group: str = Field(
        "alignstream",
        pattern=NAME_PATTERN,
        description="Consumer group of the workers; they share its partitions.",
    )
    topic_prefix: str = Field(
        "",
        pattern=TOPIC_PREFIX_PATTERN,
        description="Prefix of every topic name, so that several services can share a broker.",
    )
    broker_security: Literal["PLAINTEXT", "SSL", "SASL_SSL", "SASL_PLAINTEXT"] = Field(
        "PLAINTEXT",
        description="Kafka security protocol. SASL_PLAINTEXT sends passwords in the clear and needs "
        "allow_plaintext_password=true.",
    )
    broker_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "SCRAM-SHA-512", description="SASL mechanism, used when broker_security is SASL_*."
    )
    broker_username: str | None = Field(None, description="SASL user name.")
    broker_password: SecretStr | None = Field(None, description="SASL password (or broker_password_file).")
    broker_password_file: Path | None = Field(None, description="File holding the SASL password.")
    broker_ca_file: Path | None = Field(
        None, description="CA certificates (PEM) to trust. Default: the system's."
    )
    broker_cert_file: Path | None = Field(None, description="Client certificate (PEM) for mutual TLS.")
    broker_key_file: Path | None = Field(None, description="Private key (PEM) of the client certificate.")
    allow_plaintext_password: bool = Field(
        default=False,
        description="Allow SASL passwords over an unencrypted connection to the broker. Off by default.",
    )
    idempotence: bool = Field(
        default=True,
        description="Idempotent producer: retries inside the client create no duplicates. Turn it off only for "
        "brokers that refuse it (the local stack's does).",
    )
    read_committed: bool = Field(
        default=False,
        description="Read only records of committed transactions. Turn it on if upstream producers are "
        "transactional.",
    )
    group_instance_id: str | None = Field(
        None,
        pattern=NAME_PATTERN,
        description="Static group membership id: a restart then causes no rebalance. Leave it unset where replicas "
        "are scaled.",
    )
    session_timeout_seconds: Annotated[float, Field(ge=6, le=300)] = Field(
        45.0,
        description="Seconds without a heartbeat after which the group reassigns this worker's partitions. "
        "Default: Kafka's.",
    )
    commit_interval_seconds: Seconds = Field(
        1.0, description="Seconds between offset commits; bounds the duplicates after a crash."
    )
    produce_timeout_seconds: Seconds = Field(
        30.0, description="Seconds to wait for the confirmation of a delivery before the worker exits."
    )
    producer_linger_seconds: Annotated[float, Field(ge=0, le=1)] = Field(
        0.0,
        description="Seconds the producer waits to fill a request. Default 0: the outputs of a batch are sent "
        "together anyway, and the next batch waits for their confirmation.",
    )
    compression: Literal["none", "gzip", "lz4", "snappy", "zstd"] = Field(
        "lz4", description="Compression of produced batches. lz4 is cheap, and every client reads it."
    )

    # -- Redis -------------------------------------------------------------------------------------
    redis_url: str = Field(
        "redis://127.0.0.1:6379/0",
        description="Redis that holds adapters, label sets and epochs: redis://, rediss:// (TLS) or unix://.",
    )
    redis_username: str | None = Field(None, description="Redis ACL user.")
    redis_password: SecretStr | None = Field(None, description="Redis password (or redis_password_file).")
    redis_password_file: Path | None = Field(None, description="File holding the Redis password.")
    redis_ca_file: Path | None = Field(None, description="CA certificates (PEM) to trust for rediss://.")
    registry_poll_seconds: Annotated[float, Field(ge=0.1, le=300)] = Field(
        5.0,
        description="Seconds between polls of the registry, plus or minus 20 %. Pub/sub hints make a swap faster.",
    )
    redis_timeout_seconds: Annotated[float, Field(gt=0, le=10)] = Field(
        0.5,
        description="Timeout of one Redis call, in seconds; the library's default can block for a minute.",
    )

    # -- encoder and adapter -----------------------------------------------------------------------
    artifact: Path | None = Field(
        None,
        description="Folder of the encoder artifact. Default: the embedded encoder, assembled once and cached.",
    )
    adapter: str = Field(
        "default",
        pattern=NAME_PATTERN,
        description="Adapter for messages that name none; 'identity' leaves vectors as encoded.",
    )
    threads: Annotated[int, Field(ge=0, le=256)] = Field(
        0, description="Threads per inference. 0: the cores that this process may use."
    )
    max_batch_tokens: Annotated[int, Field(ge=512, le=262_144)] = Field(
        2048,
        description="Padded tokens per inference. More gains no speed on CPUs and costs memory.",
    )

    # -- following the stream ----------------------------------------------------------------------
    follow: Literal["epochs", "live", "off"] = Field(
        "epochs",
        description="How query vectors follow the stream. epochs: a new epoch when a tenant's texts have doubled, "
        "when its stream changes, and after feedback. live: also every epoch_interval_seconds. off: no query vectors, "
        "and workers publish no observations.",
    )
    epoch_interval_seconds: Annotated[float, Field(ge=0.5, le=3600)] = Field(
        2.0,
        description="Seconds between epochs when follow is live. Quality is the same as with follow=epochs.",
    )
    max_tenants: Annotated[int, Field(ge=1, le=100_000)] = Field(
        10_000,
        description="Tenants the learner keeps state for, per encoder; it learns nothing from further ones.",
    )
    checkpoint_seconds: Annotated[float, Field(ge=0.1, le=600)] = Field(
        10.0,
        description="Seconds between the learner's checkpoints; bounds what it reads again after a crash.",
    )
    learner_group: str = Field(
        "alignstream-learner",
        pattern=NAME_PATTERN,
        description="Consumer group of the learner. Of several learners, one is active and the others wait.",
    )

    # -- zero-shot labels --------------------------------------------------------------------------
    label_set: str | None = Field(
        None,
        pattern=NAME_PATTERN,
        description="Label set for messages that name no labels. Default: none, so they get no label record.",
    )
    template: str = Field(
        "This text is about {label}.",
        description="Sentence in which each label is embedded; must contain {label} exactly once.",
    )

    # -- admission ---------------------------------------------------------------------------------
    max_document_bytes: Bytes = Field(
        900_000,
        description="Largest input value, in bytes; larger ones are dead-lettered before they are parsed.",
    )
    max_output_bytes: Bytes = Field(
        1_000_000,
        description="Largest output record with key and headers, in bytes. Lowered at start-up to what the output "
        "topics accept.",
    )
    max_nesting_depth: Annotated[int, Field(ge=4, le=500)] = Field(
        64, description="Deepest nesting of an input value; deeper ones are dead-lettered."
    )
    tenants: tuple[str, ...] | None = Field(
        None, description="Allowed tenants, as a JSON list. Default: all."
    )
    vector_encoding: Literal["base64-f32le", "json"] = Field(
        "base64-f32le", description="Encoding of vectors. base64 takes a third of the space of JSON numbers."
    )
    raw_vector: bool = Field(
        default=False,
        description="Also publish the vector as encoded, in float16, so that 'alignstream realign' can move it to "
        "another adapter. Off by default: it adds 40 % to a record.",
    )

    # -- batching ----------------------------------------------------------------------------------
    batch_records: Annotated[int, Field(ge=1, le=4096)] = Field(
        64, description="Records per batch; bounds the duplicates after a crash."
    )
    batch_linger_seconds: Annotated[float, Field(gt=0, le=10)] = Field(
        0.05, description="Seconds to wait for a batch to fill; adds to the latency on a quiet stream."
    )
    buffer_records: Annotated[int, Field(ge=16, le=65_536)] = Field(
        256, description="Records held in memory before fetching pauses."
    )

    # -- running -----------------------------------------------------------------------------------
    metrics_host: str = Field(
        "127.0.0.1",
        description="Address of /livez, /readyz and /metrics. Default: loopback, because they need no login.",
    )
    metrics_port: Annotated[int, Field(ge=0, le=65_535)] = Field(
        9464, description="Port of /livez, /readyz and /metrics; 0 takes a free one and logs it."
    )
    stall_timeout_seconds: Seconds = Field(
        120.0, description="Seconds without progress, while records wait, before the worker exits."
    )
    max_crashes_alone: Annotated[int, Field(ge=1, le=100)] = Field(
        3, description="Times a record may kill the worker when processed alone before it is dead-lettered."
    )
    cache_dir: Path = Field(
        Path(platformdirs.user_cache_dir("alignstream")),
        description="Folder for the embedded encoder and the last good adapters. Default: the user's cache.",
    )
    state_dir: Path = Field(
        Path(platformdirs.user_state_dir("alignstream")),
        description="Folder for the crash journal and the learner's name. Default: the user's state folder.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="Lowest level to log."
    )
    log_format: Literal["json", "text"] = Field(
        "json", description="json: one object per line, for log collectors. text: for people."
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take explicit values first, then the environment, then the TOML file."""
        del dotenv_settings, file_secret_settings
        sources = [init_settings, env_settings]
        path = config_file()
        if path is not None:
            sources.append(TomlConfigSettingsSource(settings_cls, toml_file=path))
        return tuple(sources)

    @field_validator("broker")
    @classmethod
    def _check_broker(cls, value: str) -> str:
        for server in value.split(","):
            host, colon, port = server.strip().rpartition(":")
            if not colon or not host or not port.isdigit() or not 0 < int(port) < 65_536:
                raise ValueError(f"{server.strip()!r} is not host:port")
        return ",".join(server.strip() for server in value.split(","))

    @field_validator("redis_url")
    @classmethod
    def _check_redis_url(cls, value: str) -> str:
        try:
            layout.address(value)
        except RegistryError as error:
            raise ValueError(str(error)) from error
        return value

    @field_validator("template")
    @classmethod
    def _check_template(cls, value: str) -> str:
        try:
            check_template(value)
        except LabelsError as error:
            raise ValueError(str(error)) from error
        return value

    @model_validator(mode="after")
    def _check_secrets(self) -> Self:
        if self.broker_security.startswith("SASL") and not self.broker_username:
            raise ValueError("broker_security is SASL_*: set broker_username and broker_password")
        if self.broker_security == "SASL_PLAINTEXT" and not self.allow_plaintext_password:
            raise ValueError(
                "SASL_PLAINTEXT sends the password in the clear: use SASL_SSL, or set allow_plaintext_password=true"
            )
        has_password = self.broker_password is not None or self.broker_password_file is not None
        if self.broker_security.startswith("SASL") and not has_password:
            raise ValueError("broker_security is SASL_*: set broker_password or broker_password_file")
        if self.broker_username and self.broker_security in {"PLAINTEXT", "SSL"}:
            raise ValueError("broker_username is set, but broker_security is not SASL_SSL")
        if (self.broker_cert_file is None) != (self.broker_key_file is None):
            raise ValueError("set both broker_cert_file and broker_key_file, or neither")
        for name in ("broker", "redis"):
            if getattr(self, f"{name}_password") and getattr(self, f"{name}_password_file"):
                raise ValueError(f"set {name}_password or {name}_password_file, not both")
        return self

    def secret(self, name: Literal["broker_password", "redis_password"]) -> str | None:
        """Return a password from its setting or its file, without the trailing newline.

        Raises
        ------
        SettingsError
            The file cannot be read.
        """
        value: SecretStr | None = getattr(self, name)
        if value is not None:
            return value.get_secret_value()
        path: Path | None = getattr(self, f"{name}_file")
        if path is None:
            return None
        try:
            return path.read_text(encoding="utf-8").rstrip("\r\n")
        except OSError as error:
            raise SettingsError(
                f"{PREFIX}{name.upper()}_FILE: cannot read {path}: {error.strerror}"
            ) from error
        except UnicodeDecodeError:
            # Its message would quote the secret's bytes.
            raise SettingsError(f"{PREFIX}{name.upper()}_FILE: {path} is not UTF-8") from None


def config_file(environ: Mapping[str, str] | None = None) -> Path | None:
    """Return the TOML file to read, or None if there is none."""
    named = (os.environ if environ is None else environ).get("ALIGNSTREAM_CONFIG")
    if named:
        return Path(named)
    here = Path("alignstream.toml")
    return here if here.is_file() else None


#: Replacements for pydantic messages that would not help.
_MESSAGES = {"extra_forbidden": "unknown setting", "tuple_type": 'must be a JSON list, such as ["acme"]'}


def load(**overrides: Any) -> Settings:  # noqa: ANN401 (values of any setting)
    """Read the settings; explicit values take precedence.

    Raises
    ------
    SettingsError
        A setting is unknown or malformed, or the TOML file cannot be read.
    """
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields} | NOT_SETTINGS
    unknown = sorted(key for key in os.environ if key.upper().startswith(PREFIX) and key.upper() not in known)
    if unknown:
        raise SettingsError(
            f"unknown setting in the environment: {', '.join(unknown)}; see 'alignstream config'"
        )
    path = config_file()
    if path is not None and not path.is_file():
        raise SettingsError(f"ALIGNSTREAM_CONFIG: file {path} does not exist")
    try:
        return Settings(**overrides)
    except ValidationError as error:
        lines = []
        for problem in error.errors(include_url=False, include_input=False):
            name = ".".join(str(part) for part in problem["loc"])
            message = _MESSAGES.get(problem["type"], problem["msg"])
            lines.append(f"{PREFIX}{name.upper()}: {message}" if name else message)
        raise SettingsError("; ".join(lines)) from error
    except ValueError as error:  # not TOML, or not JSON where a list is expected
        raise SettingsError(f"{path or 'environment'}: {error}") from error
