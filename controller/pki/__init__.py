"""Certificates: a small authority of one's own, and who a certificate stands for."""
