drop table composition_images;
