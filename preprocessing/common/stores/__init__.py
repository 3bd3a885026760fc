"""Stores: a local disk, HDFS and object stores behind one interface."""
