# The base of all images in the tests, made from Debian's packages. Context: a folder with base.tar.
FROM scratch
ADD base.tar /
CMD ["bash"]
