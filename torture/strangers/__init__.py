"""What strangers hand over: files, manifests, types, numbers and pictures with tricks."""
