"""The zoo: edits that are bundled or on the Hub (`list`), their `cards`, publishing (`publish`),
several folders as one `collection`, and a page with some of them as a `space`.

What visitors of a page load from the Hub is checked first (`visitors`).

`load_edit` and `load_directions` are defined beside the classes that they load.
"""

from stylegan_hub.artifacts import CARD_NAME, METRICS_NAME, read_metrics
from stylegan_hub.hub.cards import (
    LICENSES,
    LIKENESSES,
    PICTURE_NAME,
    card_metadata,
    evaluate_folder,
    write_card,
)
from stylegan_hub.hub.collection import Collected, publish_collection, zoo_of
from stylegan_hub.hub.list import EditInfo, Listing, edit_info, list_edits
from stylegan_hub.hub.publish import PublishError, Publishing, publish, unpublish, who
from stylegan_hub.hub.space import Space, push_space, write_space
from stylegan_hub.hub.visitors import VisitorEdits

__all__ = [
    "CARD_NAME",
    "LICENSES",
    "LIKENESSES",
    "METRICS_NAME",
    "PICTURE_NAME",
    "Collected",
    "EditInfo",
    "Listing",
    "PublishError",
    "Publishing",
    "Space",
    "VisitorEdits",
    "card_metadata",
    "edit_info",
    "evaluate_folder",
    "list_edits",
    "publish",
    "publish_collection",
    "push_space",
    "read_metrics",
    "unpublish",
    "who",
    "write_card",
    "write_space",
    "zoo_of",
]
