"""The table of messages: the very bytes that the interface means, beside anybody else's classes."""

import struct

from absl.testing import parameterized
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
import pytest

from alpamayo_jax.serve import wire


def varint_field(number, value):
    return bytes([number << 3]) + bytes([value])


def fixed64_field(number, value):
    return bytes([number << 3 | 1]) + struct.pack("<Q", value)


def bytes_field(number, data):
    return bytes([number << 3 | 2, len(data)]) + data


def float_field(number, value):
    return bytes([number << 3 | 5]) + struct.pack("<f", value)


def test_a_plan_is_written_as_protocol_buffers_say():
    reply = wire.DriveResponse(terminate_session=True)
    timed = reply.trajectory.poses.add(timestamp_us=1_700_000_000_000_000)
    timed.pose.vec.x, timed.pose.quat.w, timed.pose.quat.z = 2.5, 0.5, -0.5
    reply.debug_info.unstructured_debug_info = b"why"
    reply.debug_info.sampled_trajectories.add()
    pose = bytes_field(1, float_field(1, 2.5))
    pose += bytes_field(2, float_field(1, 0.5) + float_field(4, -0.5))
    timed = bytes_field(1, pose) + fixed64_field(2, 1_700_000_000_000_000)
    want = bytes_field(2, bytes_field(1, timed))
    want += bytes_field(3, bytes_field(1, b"why") + bytes_field(2, b""))
    assert reply.SerializeToString() == want + varint_field(4, 1)


def test_a_session_is_read_with_its_cameras():
    camera = bytes_field(1, varint_field(8, 64) + bytes_field(5, b"front")) + bytes_field(3, b"id")
    data = bytes_field(1, b"uuid") + fixed64_field(2, 2**63 + 1)
    data += bytes_field(4, bytes_field(1, b"scene"))
    data += bytes_field(5, bytes_field(1, bytes_field(3, camera)))
    request = wire.DriveSessionRequest.FromString(data)
    assert request.session_uuid == "uuid" and request.random_seed == 2**63 + 1
    assert request.HasField("debug_info") and request.debug_info.scene_id == "scene"
    (found,) = request.rollout_spec.vehicle.available_cameras
    assert found.logical_id == "id" and found.intrinsics.resolution_w == 64
    assert found.intrinsics.logical_id == "front"
    assert not wire.DriveSessionRequest.FromString(b"").HasField("debug_info")


class FieldsTest(parameterized.TestCase):

    @parameterized.parameters(
        ("egodriver.DriveRequest", {"session_uuid": 1, "time_now_us": 3, "time_query_us": 4,
                                    "renderer_data": 5}),
        ("egodriver.RolloutEgoTrajectory", {"session_uuid": 1, "trajectory": 3,
                                            "dynamic_states": 5}),
        ("egodriver.RolloutCameraImage.CameraImage", {
            "frame_start_us": 2, "frame_end_us": 3, "image_bytes": 4, "logical_id": 5}),
        ("egodriver.Route", {"waypoints": 1, "timestamp_us": 2}),
        ("common.VersionId", {"version_id": 1, "git_hash": 2, "grpc_api_version": 3}),
        ("grpc.health.v1.HealthCheckResponse", {"status": 1}),
    )  # fmt: skip
    def test_numbers(self, name, numbers):
        fields = wire.MESSAGES[name].DESCRIPTOR.fields
        self.assertEqual({field.name: field.number for field in fields}, numbers)

    @parameterized.parameters("ftheta_param", "opencv_pinhole_param", "opencv_fisheye_param")
    def test_a_camera_has_one_lens(self, name):
        camera = wire.AvailableCamera()
        camera.intrinsics.opencv_fisheye_param.max_angle = 1.0
        getattr(camera.intrinsics, name).principal_point_x = 3.0
        self.assertEqual(camera.intrinsics.WhichOneof("camera_param"), name)


def test_every_call_has_messages_of_the_interface():
    for request, reply in wire.CALLS.values():
        assert request in wire.MESSAGES.values() and reply in wire.MESSAGES.values()
    assert wire.SERVICE == "egodriver.EgodriverService"


def test_other_classes_of_the_same_names_can_live_in_the_process():
    """As when AlpaSim's own package is imported too: its names are in the common pool."""
    file = descriptor_pb2.FileDescriptorProto(
        name="alpasim_grpc/v0/egodriver.proto", package="egodriver", syntax="proto3"
    )
    file.message_type.add(name="DriveRequest").field.add(
        name="other", number=1, type=9, label=1
    )
    pool = descriptor_pool.Default()
    pool.AddSerializedFile(file.SerializeToString())
    theirs = message_factory.GetMessageClass(pool.FindMessageTypeByName("egodriver.DriveRequest"))
    assert theirs(other="x").SerializeToString() == bytes_field(1, b"x")
    assert wire.DriveRequest(session_uuid="x").SerializeToString() == bytes_field(1, b"x")
    with pytest.raises((ValueError, AttributeError)):
        wire.DriveRequest(other="x")
