from absl.testing import parameterized
import pytest

from alpamayo_jax.config import ConfigError
from alpamayo_jax.decode.settings import SampleSettings


class SettingsTest(parameterized.TestCase):
    def test_defaults_are_the_releases(self):
        settings = SampleSettings()
        assert (settings.temperature, settings.top_p, settings.num_samples) == (0.6, 0.98, 6)
        assert settings.max_new_tokens == 256 and settings.force_end and not settings.greedy
        assert settings.flow_steps is settings.flow_temperature is settings.guidance_weight is None

    def test_can_be_a_static_argument(self):
        assert hash(SampleSettings(num_samples=2)) == hash(SampleSettings(num_samples=2))
        assert SampleSettings(greedy=True) != SampleSettings()

    @parameterized.parameters(
        ("num_samples", 0),
        ("max_new_tokens", 0),
        ("temperature", 0.0),
        ("temperature", -1.0),
        ("temperature", float("nan")),
        ("top_p", 0.0),
        ("top_p", 1.01),
        ("flow_steps", 0),
    )
    def test_refuses(self, name, value):
        with pytest.raises(ConfigError, match=name):
            SampleSettings(**{name: value})

    @parameterized.parameters(
        ("max_new_tokens", 1), ("top_p", 1.0), ("flow_steps", 1), ("guidance_weight", 0.0)
    )
    def test_accepts_the_edge(self, name, value):
        assert getattr(SampleSettings(**{name: value}), name) == value
