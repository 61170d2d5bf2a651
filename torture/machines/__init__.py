"""What machines do to a cache: kills, power cuts, rot, full and lacking disks, many at once."""
