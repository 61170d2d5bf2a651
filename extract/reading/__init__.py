"""How files of a release are read: strictly, packed or not, in whichever layout people have them."""
