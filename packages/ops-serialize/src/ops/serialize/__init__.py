"""Any object to bytes or a file and back, lossless and safe; YAML dataclass configs.

Names load on first use, so `import ops.serialize` loads no third-party module.
"""

from typing import TYPE_CHECKING

from ops.foundation.lazy import lazy_exports

if TYPE_CHECKING:
    from ops.serialize.codecs import (
        compress_data,
        decompress_data,
    )
    from ops.serialize.digests import (
        ENCODER_VERSION,
        digest,
    )
    from ops.serialize.errors import (
        ConfigError,
        CorruptDataError,
        FutureVersionError,
        SerializeError,
        SerializeErrorCode,
        SignatureError,
        TooLargeError,
        UnsupportedTypeError,
        UntrustedDataError,
    )
    from ops.serialize.formats import (
        SerializationFormat,
        Serializer,
    )
    from ops.serialize.inspection import (
        FileInfo,
        inspect,
        scan,
    )
    from ops.serialize.smart import (
        SerializationResult,
        SmartSerializer,
        deserialize_data,
        detect_serialization_format,
        dump,
        get_serializer,
        load,
        register_custom_serializer,
        serialize_data,
    )
    from ops.serialize.trust import (
        Safe,
        Signed,
        allow_type,
    )
    from ops.serialize.yaml_config import YamlConfig

__all__ = [
    "ENCODER_VERSION",
    "ConfigError",
    "CorruptDataError",
    "FileInfo",
    "FutureVersionError",
    "Safe",
    "SerializationFormat",
    "SerializationResult",
    "SerializeError",
    "SerializeErrorCode",
    "Serializer",
    "SignatureError",
    "Signed",
    "SmartSerializer",
    "TooLargeError",
    "UnsupportedTypeError",
    "UntrustedDataError",
    "YamlConfig",
    "allow_type",
    "compress_data",
    "decompress_data",
    "deserialize_data",
    "detect_serialization_format",
    "digest",
    "dump",
    "get_serializer",
    "inspect",
    "load",
    "register_custom_serializer",
    "scan",
    "serialize_data",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        ".codecs": (
            "compress_data",
            "decompress_data",
        ),
        ".digests": (
            "ENCODER_VERSION",
            "digest",
        ),
        ".errors": (
            "ConfigError",
            "CorruptDataError",
            "FutureVersionError",
            "SerializeError",
            "SerializeErrorCode",
            "SignatureError",
            "TooLargeError",
            "UnsupportedTypeError",
            "UntrustedDataError",
        ),
        ".formats": (
            "SerializationFormat",
            "Serializer",
        ),
        ".inspection": ("FileInfo", "inspect", "scan"),
        ".yaml_config": ("YamlConfig",),
        ".smart": (
            "SerializationResult",
            "SmartSerializer",
            "deserialize_data",
            "detect_serialization_format",
            "dump",
            "get_serializer",
            "load",
            "register_custom_serializer",
            "serialize_data",
        ),
        ".trust": (
            "Safe",
            "Signed",
            "allow_type",
        ),
    },
)
