"""What machines are told of themselves over HTTP: the trees of EC2, OpenStack and NoCloud, or Nova's own answers."""
