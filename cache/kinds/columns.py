"""Columns that several parts have, the usual sizes of axes, and the codes and bounds of stored values."""

from cache.kinds.part import Column

# usual sizes of axes
SIZES = {"D": 768, "V": 2048, "P": 512, "K": 3, "R": 49, "A": 20, "F": 10, "L": 512, "I": 768, "G": 49}
LABELS = 1 << 16  # a detector's classes: COCO's categories 1 to 90, its own from 91 on
PIXELS = 1 << 26  # more than the longest side of a picture that is opened
ROUNDED = 1e-3  # by which a sum of rounded numbers may pass its bound

# Why a row has no picture of its own. The position is the stored code: append, never reorder.
IMAGE_STATUS = (
    "ok",
    "none",  # the release names no picture for this row
    "missing",
    "not_a_file",
    "unreadable",
    "empty",
    "not_an_image",
    "svg",
    "unsupported",
    "corrupt",
    "too_small",
    "too_large",
    "float_image",
)

COSINE = (-1 - ROUNDED, 1 + ROUNDED)
SHARE = (0, 1 + ROUNDED)
PRESENT = Column("", "|b1", "the picture is there and readable; false: the row holds the neutral image's vector")
TRUNCATED = Column("", "|b1", "a text of this row was longer than the encoder's token limit and was cut")
OBJECTS = {
    "boxes": Column("K4", "<f4", "x1 y1 x2 y2 in pixels of the decoded image, best score first, 0 padded", (0, PIXELS)),
    "scores": Column("K", "<f4", "detector confidence, 0 where there is no object", SHARE),
    "labels": Column(
        "K", "<i4", "COCO category, from 91 on a class of the detector's own, 0 where there is no object", (0, LABELS)
    ),
    "summary": Column(
        "V", "feature", "sum_i s_i u_i / sum_i s_i over unit object vectors u_i (DRIN Eq. 11); 0 if none", COSINE
    ),
}
IMAGE = {"vector": Column("V", "feature", "pooled vector of the picture (DRIN Eq. 4, 5)"), "present": PRESENT}
PATCHES = {
    "vector": Column("GI", "feature", "last layer of the joint encoder's image tower, patch by patch, row by row"),
    "present": PRESENT,
}
STATES = {"vector": Column("L", "feature", "last layer of the joint encoder's text tower, not projected")}
CONTENT_IDS = {
    "content_text": Column("*", "|u1", "sha256 of the texts that the row's encoders read, 32 bytes"),
    "content_image": Column("*", "|u1", "sha256 of the picture's file, 32 bytes; 0 where there is no file"),
    "image_status": Column("", "|u1", "reason code, an index into IMAGE_STATUS", (0, len(IMAGE_STATUS) - 1)),
}
