"""Backbones from elsewhere: each file knows the names of one family and says them as timm does; `fitting` makes a ViT
of ours of what they say. Names and arithmetic only: files are the business of others."""
