//! Shaders as compute pipelines, laid out as reflection says.

use isotick_shaders::{Access, Shader, overrides};

use crate::device::Device;
use crate::segments::SEGMENT_ROWS_MAX;

/// Invocations of a workgroup. 64 suits every vendor's subgroup size; software adapters are
/// indifferent.
pub(crate) const WORKGROUP_SIZE: u32 = 64;

/// One compiled permutation of a shader.
pub(crate) struct Kernel {
    /// The shader.
    pub shader: Shader,
    pipeline: wgpu::ComputePipeline,
    layout: wgpu::BindGroupLayout,
}

impl Kernel {
    /// Compiles a permutation. Errors are reported through the device.
    pub fn new(device: &Device, shader: Shader, nullable: bool) -> Self {
        let entries: Vec<_> = shader
            .bindings
            .iter()
            .map(|binding| wgpu::BindGroupLayoutEntry {
                binding: binding.index,
                visibility: wgpu::ShaderStages::COMPUTE,
                ty: wgpu::BindingType::Buffer {
                    ty: match binding.access {
                        Access::Uniform => wgpu::BufferBindingType::Uniform,
                        Access::Read => wgpu::BufferBindingType::Storage { read_only: true },
                        Access::ReadWrite => wgpu::BufferBindingType::Storage { read_only: false },
                    },
                    has_dynamic_offset: false,
                    min_binding_size: None,
                },
                count: None,
            })
            .collect();
        let wgpu_device = &device.device;
        let layout = wgpu_device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
            label: Some(shader.name),
            entries: &entries,
        });
        let module = wgpu_device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: Some(shader.name),
            source: wgpu::ShaderSource::Wgsl(shader.source.into()),
        });
        let pipeline_layout = wgpu_device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some(shader.name),
            bind_group_layouts: &[Some(&layout)],
            immediate_size: 0,
        });
        let pipeline = wgpu_device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(shader.name),
            layout: Some(&pipeline_layout),
            module: &module,
            entry_point: Some(shader.name),
            compilation_options: wgpu::PipelineCompilationOptions {
                constants: &[
                    (overrides::SEGMENT_ROWS_MAX, f64::from(SEGMENT_ROWS_MAX)),
                    (overrides::WORKGROUP_SIZE, f64::from(WORKGROUP_SIZE)),
                    (overrides::NULLABLE, f64::from(u8::from(nullable))),
                ],
                ..Default::default()
            },
            cache: None,
        });
        Self { shader, pipeline, layout }
    }

    /// Records a dispatch over `segments` segments. `buffers` are the front parts, in bytes, of
    /// the buffers to bind, in the order of the shader's bindings.
    pub fn record(
        &self,
        device: &Device,
        encoder: &mut wgpu::CommandEncoder,
        buffers: &[(&wgpu::Buffer, u64)],
        segments: u32,
    ) {
        assert_eq!(buffers.len(), self.shader.bindings.len(), "{} bindings", self.shader.name);
        let entries: Vec<_> = self
            .shader
            .bindings
            .iter()
            .zip(buffers)
            .map(|(binding, &(buffer, bytes))| wgpu::BindGroupEntry {
                binding: binding.index,
                resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                    buffer,
                    offset: 0,
                    size: wgpu::BufferSize::new(bytes),
                }),
            })
            .collect();
        let group = device.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some(self.shader.name),
            layout: &self.layout,
            entries: &entries,
        });
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
            label: Some(self.shader.name),
            timestamp_writes: None,
        });
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, &group, &[]);
        pass.dispatch_workgroups(segments.div_ceil(WORKGROUP_SIZE), 1, 1);
    }
}
