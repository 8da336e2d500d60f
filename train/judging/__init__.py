"""What is measured of finished speech, beside the words that a recogniser hears."""
