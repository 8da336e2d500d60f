"""From a folder of clips to what a training loop reads; nothing here knows of losses."""
