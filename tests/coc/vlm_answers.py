"""A labelling model that answers in due form, for tests."""

import json

SEEN = {
    "components": [
        {
            "kind": "critical_object",
            "attributes": {
                "type": "vehicle", "category": None, "pose": "in_path", "motion": "slowing",
                "uncertainty": "low", "note": None,
            },
            "seconds_before": 0.5,
        },
        {
            "kind": "traffic_light",
            "attributes": {
                "state": "green", "arrow": "none", "visibility": "clear", "wait_line": None,
                "note": None,
            },
            "seconds_before": 0,
        },
    ]
}  # fmt: skip

DECIDED = {
    "usable": True,
    "unusable_reason": None,
    "scenario_class": "slow_for_lead",
    "longitudinal": "lead_obstacle_following",
    "longitudinal_detail": "slow",
    "lateral": None,
    "lateral_detail": None,
    "causes": [0],
    "unobserved": None,
    "trace": "Slow down because the vehicle ahead is slowing.",
}


def stage_of(body):
    """"seen" or "decided": which question a request asks."""
    return body["response_format"]["json_schema"]["name"]


def text_of(body):
    """All text of a request."""
    texts = []
    for message in body["messages"]:
        content = message["content"]
        parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
        texts += [part["text"] for part in parts if part["type"] == "text"]
    return "\n".join(texts)


def images_of(body):
    """Data URLs of all images of a request."""
    return [
        part["image_url"]["url"]
        for message in body["messages"]
        if isinstance(message["content"], list)
        for part in message["content"]
        if part["type"] == "image_url"
    ]


def good(body):
    """The answer of a model that does as it is told."""
    return json.dumps(SEEN if stage_of(body) == "seen" else DECIDED)
