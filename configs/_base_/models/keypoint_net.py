# A convolutional key-point detector of 156 thousand parameters: 64x64 pixels in, 32x32 heat maps out.
model = dict(
    type='KeypointNet',
    num_keypoints=5,
    dropout=0.05,
    heatmap_loss_weight=1000.0,
    coord_loss_weight=0.5,
    data_preprocessor=dict(
        type='ImgDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True))
