"""The zoo: edits that are bundled or on the Hub (`list`), their `cards`, the way there (`publish`).

`load_edit` and `load_directions`, which load what is found here, live with what they load.
"""

from stylegan_hub.artifacts import CARD_NAME, METRICS_NAME, read_metrics
from stylegan_hub.hub.cards import PICTURE_NAME, card_metadata, evaluate_folder, write_card
from stylegan_hub.hub.list import EditInfo, Listing, edit_info, list_edits
from stylegan_hub.hub.publish import PublishError, Publishing, publish

__all__ = [
    "CARD_NAME",
    "METRICS_NAME",
    "PICTURE_NAME",
    "EditInfo",
    "Listing",
    "PublishError",
    "Publishing",
    "card_metadata",
    "edit_info",
    "evaluate_folder",
    "list_edits",
    "publish",
    "read_metrics",
    "write_card",
]
