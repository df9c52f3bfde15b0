"""SDP bodies."""

from __future__ import annotations

from opensips_py.sip import sdp

HEAD = "v=0\r\no=alice 28 28 IN IP4 192.0.2.101\r\ns=-\r\nc=IN IP4 192.0.2.101/127\r\nt=0 0\r\n"
AUDIO = "m=audio 49172 RTP/AVP 0 8\r\na=rtpmap:0 PCMU/8000\r\na=sendrecv\r\n"
VIDEO = "m=video 51372 RTP/AVP 31\r\na=rtpmap:31 H261/90000\r\n"
SDP = HEAD + AUDIO + VIDEO


def test_lines_by_kind_and_number() -> None:
    assert sdp.line(SDP, "o") == "o=alice 28 28 IN IP4 192.0.2.101"
    assert sdp.line(SDP, "m", 1) == "m=video 51372 RTP/AVP 31"
    assert sdp.line(SDP, "a", 2) == "a=rtpmap:31 H261/90000"
    assert sdp.line(SDP, "m", 2) is None and sdp.line(SDP, "z") is None and sdp.line("", "v") is None


def test_streams() -> None:
    assert [(each.media, each.text) for each in sdp.streams(SDP)] == [("audio", AUDIO), ("video", VIDEO)]
    assert sdp.stream(SDP, 0) == sdp.stream(SDP, "audio")
    assert sdp.stream(SDP, 2) is None and sdp.stream(SDP, "text") is None and sdp.streams(HEAD) == []


def test_the_connection_address_has_no_ttl() -> None:
    assert sdp.connection_address(SDP) == "192.0.2.101"
    assert sdp.connection_address(AUDIO) is None
