"""Any object to bytes or a file and back, lossless and safe; YAML dataclass configs.

Names load on first use, so `import ops.serialize` loads no third-party module.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ops.serialize.codecs import compress_data as compress_data
    from ops.serialize.codecs import decompress_data as decompress_data
    from ops.serialize.digests import ENCODER_VERSION as ENCODER_VERSION
    from ops.serialize.digests import digest as digest
    from ops.serialize.errors import ConfigError as ConfigError
    from ops.serialize.errors import CorruptDataError as CorruptDataError
    from ops.serialize.errors import FutureVersionError as FutureVersionError
    from ops.serialize.errors import SerializeError as SerializeError
    from ops.serialize.errors import SerializeErrorCode as SerializeErrorCode
    from ops.serialize.errors import SignatureError as SignatureError
    from ops.serialize.errors import TooLargeError as TooLargeError
    from ops.serialize.errors import UnsupportedTypeError as UnsupportedTypeError
    from ops.serialize.errors import UntrustedDataError as UntrustedDataError
    from ops.serialize.formats import SerializationFormat as SerializationFormat
    from ops.serialize.formats import Serializer as Serializer
    from ops.serialize.inspection import FileInfo as FileInfo
    from ops.serialize.inspection import inspect as inspect
    from ops.serialize.inspection import scan as scan
    from ops.serialize.smart import SerializationResult as SerializationResult
    from ops.serialize.smart import SmartSerializer as SmartSerializer
    from ops.serialize.smart import deserialize_data as deserialize_data
    from ops.serialize.smart import detect_serialization_format as detect_serialization_format
    from ops.serialize.smart import dump as dump
    from ops.serialize.smart import get_serializer as get_serializer
    from ops.serialize.smart import load as load
    from ops.serialize.smart import register_custom_serializer as register_custom_serializer
    from ops.serialize.smart import serialize_data as serialize_data
    from ops.serialize.trust import Safe as Safe
    from ops.serialize.trust import Signed as Signed
    from ops.serialize.trust import allow_type as allow_type
    from ops.serialize.yaml_config import YamlConfig as YamlConfig
else:  # Written by `nox -s lint -- --fix` from the imports above.
    from ops.foundation.lazy import lazy_exports

    __all__, __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            ".codecs": "compress_data decompress_data",
            ".digests": "ENCODER_VERSION digest",
            ".errors": (
                "ConfigError CorruptDataError FutureVersionError SerializeError SerializeErrorCode "
                "SignatureError TooLargeError UnsupportedTypeError UntrustedDataError"
            ),
            ".formats": "SerializationFormat Serializer",
            ".inspection": "FileInfo inspect scan",
            ".smart": (
                "SerializationResult SmartSerializer deserialize_data detect_serialization_format "
                "dump get_serializer load register_custom_serializer serialize_data"
            ),
            ".trust": "Safe Signed allow_type",
            ".yaml_config": "YamlConfig",
        },
    )
