"""Answers to packets that the switches hand up. Frames in, frames out: no Ryu, no database, nothing that raises."""
