"""decord and torchcodec: errors for corrupted files, and if the packages are missing or unsuitable."""

import dataclasses
import sys
import wave

import av
import pytest

from datasets.frame_source import FrameSource
from tests.datasets.helpers import needs
from tests.datasets.test_video_readers import opened
from utils.errors import UserError


@pytest.mark.parametrize("decoder", ["decord", "torchcodec"])
def test_optional_decoders_name_a_corrupted_file(tmp_path, decoder):
    needs(decoder)
    (tmp_path / "text.mp4").write_text("not a video\n" * 100)
    with pytest.raises(UserError, match="text.mp4 .listed at val.txt:7.: could not be decoded"):
        opened(tmp_path / "text.mp4", decoder)
    with wave.open(str(tmp_path / "sound.wav"), "wb") as file:
        file.setparams((1, 2, 8000, 800, "NONE", ""))
        file.writeframes(bytes(1600))
    with av.open(str(tmp_path / "sound.wav")) as source, av.open(str(tmp_path / "sound.mkv"), "w") as target:
        stream = target.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux():
            if packet.size:
                packet.stream = stream
                target.mux(packet)
    with pytest.raises(UserError, match=f"sound.mkv .listed at val.txt:7.: {decoder} cannot decode it"):
        opened(tmp_path / "sound.mkv", decoder)


def test_a_torchcodec_that_ignores_rotation_is_refused(tmp_path, monkeypatch):
    @dataclasses.dataclass
    class Metadata:
        width: int

    needs("torchcodec")
    monkeypatch.setattr("torchcodec.decoders.VideoStreamMetadata", Metadata)
    for use in (lambda: opened(tmp_path / "a.mp4", "torchcodec"), FrameSource.named("torchcodec").check_installed):
        with pytest.raises(UserError, match="torchcodec [0-9.]+ ignores the rotation"):
            use()


@pytest.mark.parametrize("decoder", ["decord", "torchcodec"])
def test_an_absent_decoder_says_how_to_install_it(tmp_path, monkeypatch, decoder):
    monkeypatch.setitem(sys.modules, decoder, None)
    monkeypatch.setitem(sys.modules, f"{decoder}.decoders", None)
    for use in (lambda: opened(tmp_path / "a.mp4", decoder), lambda: FrameSource.named(decoder).check_installed()):
        with pytest.raises(UserError, match=f"pip install {decoder}"):
            use()
    FrameSource.named("pyav").check_installed()
