"""What becomes of a packet, in words: which node's which table decides what, and in the name of which object."""
