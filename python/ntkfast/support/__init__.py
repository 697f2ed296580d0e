"""Small services that many rooms use: files that are whole or not there, progress, extras."""
