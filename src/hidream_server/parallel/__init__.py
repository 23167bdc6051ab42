"""One picture on many ranks: the network cut along four axes, without a fork of its class."""
