"""What adapters are initialized from: the SVD cache and calibration runs."""
