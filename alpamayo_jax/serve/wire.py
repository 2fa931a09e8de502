"""The messages of AlpaSim's driver interface, byte for byte what its own definitions produce.

The interface is NVIDIA's (AlpaSim, Apache-2.0): packages `common`, `nre.grpc.protos.sensorsim` and
`egodriver`. It is written here as a table of names, numbers and types, which is all that reaches
the wire, and the classes are made from it at import: there is no generated code, and it does not
matter which protobuf is installed. The classes live in a pool of their own, so AlpaSim's package
can be imported in the same process.
"""

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

SERVICE = "egodriver.EgodriverService"
HEALTH_SERVICE = "grpc.health.v1.Health"
API_VERSION = (0, 53, 0)  # of AlpaSim's interface that this table describes

_COMMON = {
    "Empty": {},
    "SessionRequestStatus": {},
    "Quat": {"w": (1, "float"), "x": (2, "float"), "y": (3, "float"), "z": (4, "float")},
    "Vec3": {"x": (1, "float"), "y": (2, "float"), "z": (3, "float")},
    "Pose": {"vec": (1, "Vec3"), "quat": (2, "Quat")},
    "DynamicState": {
        "angular_velocity": (1, "Vec3"),
        "linear_velocity": (2, "Vec3"),
        "linear_acceleration": (3, "Vec3"),
        "angular_acceleration": (4, "Vec3"),
    },
    "PoseAtTime": {"pose": (1, "Pose"), "timestamp_us": (2, "fixed64")},
    "Trajectory": {"poses": (1, "*PoseAtTime")},
    "VersionId": {
        "version_id": (1, "string"),
        "git_hash": (2, "string"),
        "grpc_api_version": (3, "VersionId.APIVersion"),
    },
    "VersionId.APIVersion": {
        "major": (1, "uint32"),
        "minor": (2, "uint32"),
        "patch": (3, "uint32"),
    },
}

_SENSORSIM = {
    "AvailableCamerasReturn": {},
    "AvailableCamerasReturn.AvailableCamera": {
        "intrinsics": (1, "CameraSpec"),
        "rig_to_camera": (2, ".common.Pose"),
        "logical_id": (3, "string"),
    },
    "CameraSpec": {
        "temporary_camera_spec": (1, "string"),
        "ftheta_param": (2, "FthetaCameraParam", "camera_param"),
        "opencv_pinhole_param": (3, "OpenCVPinholeCameraParam", "camera_param"),
        "opencv_fisheye_param": (4, "OpenCVFisheyeCameraParam", "camera_param"),
        "logical_id": (5, "string"),
        "resolution_h": (7, "uint32"),
        "resolution_w": (8, "uint32"),
        "shutter_type": (9, "#ShutterType"),
        "bivariate_windshield_model_param": (
            10, "BivariateWindshieldModelParameters", "external_distortion"
        ),
    },
    "LinearCde": {
        "linear_c": (1, "double"),
        "linear_d": (2, "double"),
        "linear_e": (3, "double"),
    },
    "FthetaCameraParam": {
        "principal_point_x": (1, "double"),
        "principal_point_y": (2, "double"),
        "reference_poly": (3, "#FthetaCameraParam.PolynomialType"),
        "pixeldist_to_angle_poly": (4, "*double"),
        "angle_to_pixeldist_poly": (5, "*double"),
        "max_angle": (6, "double"),
        "linear_cde": (7, "LinearCde"),
    },
    "OpenCVPinholeCameraParam": {
        "principal_point_x": (1, "double"),
        "principal_point_y": (2, "double"),
        "focal_length_x": (3, "double"),
        "focal_length_y": (4, "double"),
        "radial_coeffs": (5, "*double"),
        "tangential_coeffs": (6, "*double"),
        "thin_prism_coeffs": (7, "*double"),
    },
    "OpenCVFisheyeCameraParam": {
        "principal_point_x": (1, "double"),
        "principal_point_y": (2, "double"),
        "focal_length_x": (3, "double"),
        "focal_length_y": (4, "double"),
        "radial_coeffs": (5, "*double"),
        "max_angle": (6, "double"),
    },
    "BivariateWindshieldModelParameters": {
        "reference_poly": (1, "#BivariateWindshieldModelParameters.ReferencePolynomial"),
        "horizontal_poly": (2, "*double"),
        "vertical_poly": (3, "*double"),
        "horizontal_poly_inverse": (4, "*double"),
        "vertical_poly_inverse": (5, "*double"),
    },
}

_SENSORSIM_ENUMS = {
    "ShutterType": (
        "UNKNOWN", "ROLLING_TOP_TO_BOTTOM", "ROLLING_LEFT_TO_RIGHT", "ROLLING_BOTTOM_TO_TOP",
        "ROLLING_RIGHT_TO_LEFT", "GLOBAL",
    ),
    "FthetaCameraParam.PolynomialType": (
        "UNKNOWN", "PIXELDIST_TO_ANGLE", "ANGLE_TO_PIXELDIST",
    ),
    "BivariateWindshieldModelParameters.ReferencePolynomial": ("FORWARD", "BACKWARD"),
}  # fmt: skip

_EGODRIVER = {
    "Route": {"waypoints": (1, "*.common.Vec3"), "timestamp_us": (2, "fixed64")},
    "GroundTruth": {"trajectory": (1, ".common.Trajectory"), "timestamp_us": (2, "fixed64")},
    "DriveSessionRequest": {
        "session_uuid": (1, "string"),
        "random_seed": (2, "fixed64"),
        "debug_info": (4, "DriveSessionRequest.DebugInfo"),
        "rollout_spec": (5, "DriveSessionRequest.RolloutSpec"),
    },
    "DriveSessionRequest.DebugInfo": {"scene_id": (1, "string")},
    "DriveSessionRequest.RolloutSpec": {
        "vehicle": (1, "DriveSessionRequest.RolloutSpec.VehicleDefinition"),
    },
    "DriveSessionRequest.RolloutSpec.VehicleDefinition": {
        "available_cameras": (
            3, "*.nre.grpc.protos.sensorsim.AvailableCamerasReturn.AvailableCamera"
        ),
    },
    "DriveSessionCloseRequest": {"session_uuid": (1, "string")},
    "RolloutCameraImage": {
        "session_uuid": (1, "string"),
        "camera_image": (3, "RolloutCameraImage.CameraImage"),
    },
    "RolloutCameraImage.CameraImage": {
        "frame_start_us": (2, "fixed64"),
        "frame_end_us": (3, "fixed64"),
        "image_bytes": (4, "bytes"),
        "logical_id": (5, "string"),
    },
    "RolloutEgoTrajectory": {
        "session_uuid": (1, "string"),
        "trajectory": (3, ".common.Trajectory"),
        "dynamic_states": (5, "*.common.DynamicState"),
    },
    "RouteRequest": {"session_uuid": (1, "string"), "route": (3, "Route")},
    "GroundTruthRequest": {"session_uuid": (1, "string"), "ground_truth": (2, "GroundTruth")},
    "DriveRequest": {
        "session_uuid": (1, "string"),
        "time_now_us": (3, "fixed64"),
        "time_query_us": (4, "fixed64"),
        "renderer_data": (5, "bytes"),
    },
    "DriveResponse": {
        "trajectory": (2, ".common.Trajectory"),
        "debug_info": (3, "DriveResponse.DebugInfo"),
        "terminate_session": (4, "bool"),
    },
    "DriveResponse.DebugInfo": {
        "unstructured_debug_info": (1, "bytes"),
        "sampled_trajectories": (2, "*.common.Trajectory"),
    },
}

_HEALTH = {
    "HealthCheckRequest": {"service": (1, "string")},
    "HealthCheckResponse": {"status": (1, "#HealthCheckResponse.ServingStatus")},
}
_HEALTH_ENUMS = {
    "HealthCheckResponse.ServingStatus": ("UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"),
}

_FILES = (  # name, package, messages, enumerations, what it builds on
    ("common.proto", "common", _COMMON, {}, ()),
    (
        "sensorsim.proto", "nre.grpc.protos.sensorsim", _SENSORSIM, _SENSORSIM_ENUMS,
        ("common.proto",),
    ),
    ("egodriver.proto", "egodriver", _EGODRIVER, {}, ("common.proto", "sensorsim.proto")),
    ("health.proto", "grpc.health.v1", _HEALTH, _HEALTH_ENUMS, ()),
)  # fmt: skip


def _file(
    name: str, package: str, messages: dict, enums: dict, imports: tuple[str, ...]
) -> descriptor_pb2.FileDescriptorProto:
    """The table of one package as protobuf describes it."""
    file = descriptor_pb2.FileDescriptorProto(
        name=name, package=package, syntax="proto3", dependency=imports
    )
    places: dict[str, Any] = {}
    for path, fields in messages.items():  # parents come before what is nested in them
        parent, _, own = path.rpartition(".")
        holder = places[parent].nested_type if parent else file.message_type
        message = places[path] = holder.add(name=own)
        for field, (number, kind, *oneof) in fields.items():
            _add_field(message, package, field, number, kind, oneof)
    for path, values in enums.items():
        parent, _, own = path.rpartition(".")
        enum = (places[parent] if parent else file).enum_type.add(name=own)
        for number, value in enumerate(values):
            enum.value.add(name=value, number=number)
    return file


def _add_field(message: Any, package: str, name: str, number: int, kind: str, oneof: list) -> None:
    """Adds a field; `kind` is a scalar, a message, #an enumeration, each repeated after a star."""
    field = message.field.add(name=name, number=number)
    field.label = field.LABEL_REPEATED if kind.startswith("*") else field.LABEL_OPTIONAL
    kind = kind.removeprefix("*")
    scalar = getattr(field, f"TYPE_{kind.upper()}", None)
    if scalar is not None:
        field.type = scalar
    else:
        field.type = field.TYPE_ENUM if kind.startswith("#") else field.TYPE_MESSAGE
        kind = kind.removeprefix("#")
        field.type_name = kind if kind.startswith(".") else f".{package}.{kind}"
    for group in oneof:
        groups = [known.name for known in message.oneof_decl]
        if group not in groups:
            message.oneof_decl.add(name=group)
            groups.append(group)
        field.oneof_index = groups.index(group)


def _classes() -> dict[str, Any]:
    """Full name -> class of every message."""
    pool = descriptor_pool.DescriptorPool()
    found = {}
    for name, package, messages, enums, imports in _FILES:
        file = _file(name, package, messages, enums, imports)
        pool.AddSerializedFile(file.SerializeToString())
        for path in messages:
            full = f"{package}.{path}"
            found[full] = message_factory.GetMessageClass(pool.FindMessageTypeByName(full))
    return found


MESSAGES = _classes()

Empty = MESSAGES["common.Empty"]
SessionRequestStatus = MESSAGES["common.SessionRequestStatus"]
VersionId = MESSAGES["common.VersionId"]
Trajectory = MESSAGES["common.Trajectory"]
Vec3 = MESSAGES["common.Vec3"]
AvailableCamera = MESSAGES["nre.grpc.protos.sensorsim.AvailableCamerasReturn.AvailableCamera"]
DriveSessionRequest = MESSAGES["egodriver.DriveSessionRequest"]
DriveSessionCloseRequest = MESSAGES["egodriver.DriveSessionCloseRequest"]
RolloutCameraImage = MESSAGES["egodriver.RolloutCameraImage"]
RolloutEgoTrajectory = MESSAGES["egodriver.RolloutEgoTrajectory"]
RouteRequest = MESSAGES["egodriver.RouteRequest"]
GroundTruthRequest = MESSAGES["egodriver.GroundTruthRequest"]
DriveRequest = MESSAGES["egodriver.DriveRequest"]
DriveResponse = MESSAGES["egodriver.DriveResponse"]
HealthCheckRequest = MESSAGES["grpc.health.v1.HealthCheckRequest"]
HealthCheckResponse = MESSAGES["grpc.health.v1.HealthCheckResponse"]
SERVING = 1

# Call -> (request, reply).
CALLS = {
    "start_session": (DriveSessionRequest, SessionRequestStatus),
    "close_session": (DriveSessionCloseRequest, Empty),
    "submit_image_observation": (RolloutCameraImage, Empty),
    "submit_egomotion_observation": (RolloutEgoTrajectory, Empty),
    "submit_route": (RouteRequest, Empty),
    "submit_recording_ground_truth": (GroundTruthRequest, Empty),
    "drive": (DriveRequest, DriveResponse),
    "get_version": (Empty, VersionId),
    "shut_down": (Empty, Empty),
}
HEALTH_CALLS = {"Check": (HealthCheckRequest, HealthCheckResponse)}
