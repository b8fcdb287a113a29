"""Readers: from files and archives to images and labels."""
